export type { Log, MachineEvent } from "./context.ts";
export { machineErrors } from "./errors.ts";
export { guestErrors } from "./exec-errors.ts";
export { Machines, type MachinesOptions } from "./machines.ts";
export type {
  ConsoleAttachment,
  ConsoleOptions,
  ExecRequest,
  ExecSession,
  LogOptions,
  VolumeAccess,
} from "./types.ts";
