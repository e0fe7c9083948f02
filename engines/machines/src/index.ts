export type { Log, MachineEvent } from "./context.ts";
export { fail as failMachine, machineErrors } from "./errors.ts";
export { guestErrors } from "./exec-errors.ts";
export { commandLine } from "./launch.ts";
export type { LiveMachine } from "./live.ts";
export type { Machine } from "./machine.ts";
export type { MachineFile } from "./machine-file.ts";
export { Machines, type MachinesOptions } from "./machines.ts";
export { memoryDirectory } from "./paths.ts";
export { endQemu, type Incoming, launchIncoming, startMachine } from "./start.ts";
export type { SuspendedState } from "./suspended.ts";
export type {
  ConsoleAttachment,
  ConsoleOptions,
  ExecRequest,
  ExecSession,
  LogOptions,
  VolumeAccess,
} from "./types.ts";
export { volumesReady } from "./volumes.ts";
