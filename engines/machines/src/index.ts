export { admitForks, anonymousBytes } from "./admission.ts";
export { type ClonedFrom, cloneVolumes } from "./clone-volumes.ts";
export type { Context, Log, MachineEvent } from "./context.ts";
export type { DiskBase } from "./disk.ts";
export { fail as failMachine, machineErrors } from "./errors.ts";
export { guestErrors } from "./exec-errors.ts";
export {
  abandonFork,
  beginForks,
  createFork,
  type ForkedFrom,
  finishFork,
  finishForks,
  holdLayers,
} from "./fork.ts";
export { writeForkSeed } from "./fork-seed.ts";
export { closeForward, forwardName, forwardsOf, openForwards } from "./forwards.ts";
export { type GuestRun, guestRun } from "./guest-run.ts";
export { allocateGroup } from "./host-user.ts";
export { commandLine } from "./launch.ts";
export { baseChain, basesOf, type DiskLayers } from "./layers.ts";
export type { LiveMachine } from "./live.ts";
export { abandonDiskFreeze, commitDiskFreeze, type DiskFreeze, prepareDiskFreeze } from "./live-freeze.ts";
export type { Machine } from "./machine.ts";
export { type MachineFile, machineIdOf, type VolumeOfMachine } from "./machine-file.ts";
export { Machines, type MachinesOptions } from "./machines.ts";
export { frozenDirectory, frozenRam, memoryDirectory } from "./paths.ts";
export { openForwardSomewhere } from "./ports.ts";
export {
  processorSeconds,
  type ThreadTime,
  threadTimes,
  ticksPerSecond,
  wantedShare,
} from "./processor-time.ts";
export { type LaterSeed, laterSeed } from "./seed-later.ts";
export { freezeDisksAtRest } from "./share-disk.ts";
export {
  endQemu,
  type Incoming,
  launchIncoming,
  launchInstead,
  plannedStart,
  startMachine,
} from "./start.ts";
export type { SuspendedState } from "./suspended.ts";
export { sweepUnusedLayers } from "./sweep.ts";
export { abandonSwitch, commitSwitch, type OtherDisks, prepareSwitch } from "./switch-disks.ts";
export type {
  ConsoleAttachment,
  ConsoleOptions,
  ExecRequest,
  ExecSession,
  LogOptions,
  MarkedVolume,
  VolumeAccess,
} from "./types.ts";
export { type TcpEnd, timeWaitMs } from "./uses.ts";
export { finishReverts } from "./volume-reverts.ts";
export { isCode, volumesReady } from "./volumes.ts";
export { abandonWarm } from "./warm-abandon.ts";
export { beginWarm, enlarge, finishWarm } from "./warm-disk.ts";
