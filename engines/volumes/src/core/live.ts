import { KeyedMutex, SkepError, toSkepError } from "@skep/base";
import type { ChunkRef } from "../chunk/reader.ts";
import type { VolumeContext } from "./context.ts";
import { fail } from "../errors.ts";
import type { ManifestKeeper } from "./keeper.ts";
import type { VolumeKey } from "../keys.ts";
import type { DurableMap } from "../map/durable-map.ts";
import { ExtentMap } from "../map/extent-map.ts";
import type { Patience } from "./store-access.ts";
import { dataSlotBytes } from "../wal/slot.ts";
import type { Wal } from "../wal/wal.ts";

export interface Counters {
  bytesWritten: number;
  bytesRead: number;
  flushes: number;
  bytesToStore: number;
}

/** What an open volume consists of; the verbs in the files beside this one work on it. */
export class Live {
  readonly id: string;
  readonly context: VolumeContext;
  readonly key: VolumeKey | null;
  readonly counters: Counters = { bytesWritten: 0, bytesRead: 0, flushes: 0, bytesToStore: 0 };
  /** Where blocks lie that the store does not have yet: source is a segment, position that of the slot. */
  readonly overlay: ExtentMap;
  readonly ending = new AbortController();
  readonly patience: Patience;
  readonly #turns = new KeyedMutex();
  readonly background = new Set<Promise<unknown>>();
  durable!: DurableMap;
  wal!: Wal;
  keeper!: ManifestKeeper;
  problem: { message: string; since: number } | null = null;
  /** Why nothing is acknowledged any more. */
  failure: SkepError | undefined;
  nextChunk = 0;
  nextVersion = 1;
  /** Objects that no manifest names any more and that could not be deleted yet. */
  readonly garbage = new Set<string>();
  /** Slots of chunks that cannot be read whole: what is left of them stays where it is. */
  readonly spoiled = new Set<number>();

  /** Of a block in the log, its header included. */
  readonly slotBytes: number;

  constructor(id: string, context: VolumeContext, key: VolumeKey | null) {
    this.id = id;
    this.context = context;
    this.key = key;
    this.slotBytes = dataSlotBytes(key !== null);
    this.overlay = new ExtentMap(this.slotBytes);
    this.patience = {
      clock: context.clock,
      signal: this.ending.signal,
      onTrouble: (error) => this.#note(error),
    };
  }

  #note(error: unknown): void {
    if (error === undefined) {
      this.problem = null;
      return;
    }
    const { message } = toSkepError(error);
    if (this.problem === null) this.context.log(`${this.id}: the store does not take what waits: ${message}`);
    this.problem = { message, since: this.problem?.since ?? this.context.clock.now() };
  }

  /** Throws where the volume is closed, fenced or broken. */
  check(): void {
    if (this.failure !== undefined) throw this.failure;
  }

  /** Ends everything: from now on each operation fails with it. */
  fail(error: SkepError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.ending.abort(error);
  }

  /** What changes manifest, durable map or objects happens one thing after the other. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.#turns.run(this.id, async () => {
      this.check();
      try {
        return await work();
      } catch (error) {
        if (error instanceof SkepError && error.code === "VOLUME_FENCED") this.fail(error);
        throw error;
      }
    });
  }

  /** Work that nobody waits for; it is over when the volume has closed, and failing is no harm. */
  inBackground(work: () => Promise<unknown>): void {
    const running = this.inTurn(work).catch((error: unknown) => {
      if (this.failure === undefined) this.context.log(`${this.id}: ${toSkepError(error).message}`);
    });
    const settled = running.then(() => void this.background.delete(settled));
    this.background.add(settled);
  }

  chunkRef(slot: number): ChunkRef {
    const row = this.durable.chunks.row(slot);
    if (row === undefined) {
      throw fail("VOLUME_DAMAGED", { id: this.id, object: "its map", why: `chunk slot ${slot} is free` });
    }
    const volume = this.durable.sources[row.source] as string;
    return {
      name: { volume, epoch: row.epoch, number: row.number },
      sizeBytes: row.bytes,
      headerBytes: row.headerBytes,
      blocks: row.blocks,
      key: this.key,
    };
  }
}
