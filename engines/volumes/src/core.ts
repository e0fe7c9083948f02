import type { Environment } from "./environment.ts";
import type { VolumeKey } from "./keys.ts";
import type { DurableMap } from "./map/durable-map.ts";
import type { ExtentMap } from "./map/extent-map.ts";
import type { Mark } from "./marks.ts";
import type { Ownership } from "./ownership.ts";
import type { Wal } from "./wal/wal.ts";

/** An open volume's parts, which its verbs (read.ts, write.ts, drain.ts, …) work on. */
export interface Core {
  readonly id: string;
  readonly env: Environment;
  readonly key: VolumeKey | null;
  readonly wal: Wal;
  /** What is newer than the durable map: block -> (segment, position), or (zero, segment). */
  readonly overlay: ExtentMap;
  /** Another one after a revert. */
  map: DurableMap;
  /** Bytes of a block's slot in the log. */
  readonly slotBytes: number;
  readonly ownership: Ownership;
  readonly counters: Counters;
  /** What the log had lost, although it was flushed, when the volume was opened. */
  readonly damage: { message: string; since: number } | null;
  readonly numbers: Numbers;
  /** In the order in which they were made: snapshots that are not in the manifest yet. */
  readonly marks: Mark[];
  /** It is being set back to a snapshot: no instant of it is one that it was at. */
  isReverting: boolean;
  /** Sizes of the manifest's map objects, by key. */
  readonly mapBytes: Map<string, number>;
  /** Objects that no manifest names any more, to be deleted. */
  readonly garbage: Set<string>;
}

/** The next ones; none is used twice, not after a failure either. */
export interface Numbers {
  chunk: number;
  map: number;
}

export interface Counters {
  bytesWritten: number;
  bytesRead: number;
  flushes: number;
  bytesToStore: number;
  bytesFromStore: number;
  /** Changes of the overlay so far: those of the last capture, and those that the store has. */
  changes: number;
  captured: number;
  committed: number;
  /** What was written since the last capture. */
  waitingBytes: number;
  /** How often the durable map has changed. */
  generation: number;
  /** Where the last read has ended, in blocks. */
  readEnd: number;
  /** What compaction may still write, in blocks. */
  credit: number;
}
