export { type Control, type ControlOptions, createControl } from "./control.ts";
export type {
  ImageEngine,
  MachineEngine,
  OwnedBucket,
  SnapshotEngine,
  StateEngine,
  StorageEngine,
  VolumeEngine,
  VolumeGarbage,
} from "./engines.ts";
export { controlErrors } from "./errors.ts";
export { Events, type NewEvent } from "./events.ts";
export { type JobRequest, Jobs, type Recover } from "./jobs.ts";
export { openStore } from "./store.ts";
export { Tokens } from "./tokens.ts";
