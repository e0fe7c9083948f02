import type { ObjectStore } from "@skep/objects";
import type { Files } from "@skep/objects/files";
import type { ChunkReader } from "../chunk/reader.ts";
import type { Pace } from "../pace.ts";
import type { Clock, KeyWrap } from "../types.ts";

/** How much may wait where, and when what is done about it. */
export interface Tuning {
  /** Of one volume's log on this host; at it, writes wait. */
  walLimitBytes: number;
  segmentBytes: number;
  /** What waits in the log before it is put into the store without delay. */
  drainBytes: number;
  /** The oldest write waits so long at most. */
  drainAfterMs: number;
  /** A chunk is written anew when at most this share of a full one is live. */
  compactBelow: number;
  /** How many bytes a drain compacts for each one that it writes. */
  compactShare: number;
  /** More deltas than this make a new base; so do more bytes of them than the base has. */
  maxDeltas: number;
  /** Below this many bytes of deltas no new base is worth it. */
  minBaseBytes: number;
}

export const defaultTuning: Tuning = {
  walLimitBytes: 1024 * 1024 * 1024,
  segmentBytes: 64 * 1024 * 1024,
  drainBytes: 32 * 1024 * 1024,
  drainAfterMs: 5000,
  compactBelow: 0.25,
  compactShare: 0.5,
  maxDeltas: 64,
  minBaseBytes: 256 * 1024,
};

/** What all volumes of one store on this host share. */
export interface VolumeContext {
  store: ObjectStore;
  files: Files;
  /** `$SKEP_HOME/volumes`. */
  directory: string;
  host: string;
  keys: KeyWrap | null;
  clock: Clock;
  random: (bytes: number) => Uint8Array;
  pace: Pace;
  reader: ChunkReader;
  /** Chunks in memory on their way to the store, over all volumes. */
  uploads: Gate;
  compress(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  decompress(bytes: Uint8Array, maxBytes: number): Uint8Array;
  pause(): Promise<void>;
  tuning: Tuning;
  log(message: string): void;
  /** Takes a volume's directory for this process; undefined where another one has it. */
  lock(path: string): Disposable | undefined;
}

/** Lets so many pass at once; the others wait in their order. */
export class Gate {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(places: number) {
    this.#free = places;
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
