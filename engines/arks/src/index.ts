export { checkState } from "./check.ts";
export { beginState, commitState, listStates, removeState } from "./commit.ts";
export { devicesOf, differences, hasHelperPort } from "./compat.ts";
export { packDevice, unpackDevice } from "./device.ts";
export { diagnoseStates, type NamedState } from "./doctor.ts";
export { stateErrors } from "./errors.ts";
export { type FreezeOptions, type Freezing, freezeMachine } from "./freeze.ts";
export { Frozen, FrozenMachines, type FrozenOptions } from "./frozen.ts";
export type { FrozenRecord } from "./frozen-record.ts";
export { frozenFromState } from "./frozen-state.ts";
export { readManifest, writeManifest } from "./manifest.ts";
export { openStates, type StatesOptions } from "./open.ts";
export { type PackMemoryOptions, packMemory } from "./pack.ts";
export { type PackedState, packFrozen } from "./pack-frozen.ts";
export {
  isStateId,
  newStateId,
  type StatePaths,
  stateDirectory,
  statePaths,
  statesDirectory,
} from "./paths.ts";
export { snapshotErrors } from "./snapshot-errors.ts";
export { readSnapshot, type SnapshotFile } from "./snapshot-file.ts";
export { layersOfSnapshots, type SnapshotUses, snapshotUses, statesOfSnapshots } from "./snapshot-uses.ts";
export { volumesOfSnapshots } from "./snapshot-volumes.ts";
export type { Snapshots } from "./snapshots.ts";
export type { Reach } from "./standstill.ts";
export type { States } from "./states.ts";
export { defaultSettings, type TemplateSettings } from "./template-cache.ts";
export { templateErrors } from "./template-errors.ts";
export { layersOfTemplates } from "./template-record.ts";
export type { Templates } from "./templates.ts";
export type * from "./types.ts";
export { type UnpackMemoryOptions, unpackMemory } from "./unpack.ts";
