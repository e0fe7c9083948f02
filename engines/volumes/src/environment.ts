import type { ObjectStore } from "@skep/objects";
import type { Files } from "@skep/objects/files";
import type { ChunkReader } from "./chunk/reader.ts";
import type { Semaphore } from "./semaphore.ts";
import type { Clock, KeyWrap } from "./types.ts";
import type { UploadMemory } from "./upload-memory.ts";

/** What the volumes of one store need of this host; all of it is given from outside (volumes.ts). */
export interface Environment {
  store: ObjectStore;
  reader: ChunkReader;
  /** `$SKEP_HOME/volumes`. */
  directory: string;
  host: string;
  keys: KeyWrap | undefined;
  files: Files;
  clock: Clock;
  random(bytes: number): Uint8Array;
  /** Lets other work of the event loop run. */
  pause(): Promise<void>;
  /** Since some moment. */
  nanoseconds(): number;
  compress(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Chunks that are in memory on their way to a store, of all volumes. */
  uploads: Semaphore;
  uploadMemory: UploadMemory;
  /** Exclusively, until it is disposed of or this process ends; VOLUME_OPEN is thrown by the caller. */
  lock(path: string): Disposable | undefined;
  log(message: string): void;
  segmentBytes: number;
  earlySyncBytes: number | undefined;
  walLimitBytes: number;
  drainBytes: number;
  /** Of deltas, what a manifest holds itself; 0: nothing. */
  inlineBytes: number;
  drainAfterMs: number;
}
