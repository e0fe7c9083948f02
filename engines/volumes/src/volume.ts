import { type BlockExtent, NbdError, type ReadOptions, type ReadResult, type WriteOptions } from "@skep/nbd";
import type { Unreadable } from "./compaction.ts";
import type { Core } from "./core.ts";
import { drain } from "./drain.ts";
import { DrainPace } from "./drain-pace.ts";
import { fail } from "./errors.ts";
import { type CollectOptions, collectGarbage, deletesAtOnce, sweep } from "./gc.ts";
import { givenUp, unlessAborted } from "./giving-up.ts";
import { Throttle } from "./limits.ts";
import { infoOf, isVolumeSize, limitsOf } from "./manifest.ts";
import { dropMark, makeMark } from "./marks.ts";
import { readRange } from "./read.ts";
import { revertTo } from "./revert.ts";
import { completeMark, removeSnapshot, takeSnapshot } from "./snapshots.ts";
import { blockStatus, mappedBlocks } from "./status.ts";
import type {
  Collected,
  OpenVolume,
  SnapshotInfo,
  VerbOptions,
  VolumeInfo,
  VolumeMark,
  VolumeSettings,
  VolumeStatistics,
} from "./types.ts";
import { blockBytes } from "./types.ts";
import { Writer } from "./write.ts";

/** What else goes when a volume is closed: its lock, and the mark of its owner. */
export interface Releases {
  /** The volume is nobody's any more. */
  given(): Promise<void>;
  unlock(): void;
}

interface Draining {
  /** The store has what was captured: a flush waits for that. */
  stored: Promise<void>;
  /** The log is shorter by it, too. */
  over: Promise<void>;
}

export class Volume implements OpenVolume {
  readonly id: string;
  readonly blockSizes = { minimum: 1, preferred: blockBytes, maximum: 32 * 2 ** 20 };
  readonly readOnly = false;
  readonly multiConn = true;
  readonly #core: Core;
  readonly #releases: Releases;
  readonly #writer: Writer;
  readonly #throttle: Throttle;
  readonly #pace: DrainPace;
  readonly #unreadable: Unreadable = new Set();
  #tail: Promise<unknown> = Promise.resolve();
  /** A drain that has not captured yet: all that ask for one share it. */
  #nextDrain: Draining | undefined;
  #runningDrain: Draining | undefined;
  #isWaiting = false;
  #sweeping: Promise<unknown> | undefined;
  #closing: Promise<void> | undefined;
  #isClosed = false;

  constructor(core: Core, releases: Releases) {
    this.id = core.id;
    this.#core = core;
    this.#releases = releases;
    this.#writer = new Writer(
      core,
      (bytes) => this.#changed(bytes),
      () => this.#drainSoon(),
    );
    const { files, drainBytes, directory } = core.env;
    this.#pace = new DrainPace(drainBytes, () => files.freeBytesSync(directory));
    const { manifest, ending } = core.ownership;
    this.#throttle = new Throttle(core.env.clock, limitsOf(manifest), ending);
    if (core.counters.changes > 0) this.#changed(0);
  }

  get sizeBytes(): number {
    return this.#core.ownership.manifest.VolumeSize;
  }

  info(): VolumeInfo {
    return infoOf(this.#core.ownership.manifest);
  }

  statistics(): VolumeStatistics {
    const { map, overlay, wal, counters, ownership, damage } = this.#core;
    return {
      mappedBytes: mappedBlocks(this.#core) * blockBytes,
      storedBytes: map.chunks.ownBytes,
      chunks: map.chunks.ownChunks,
      walBytes: wal.bytes,
      extents: map.extents.extents + overlay.extents,
      mapMemoryBytes: map.memoryBytes + overlay.memoryBytes,
      bytesWritten: counters.bytesWritten,
      bytesRead: counters.bytesRead,
      flushes: counters.flushes,
      bytesToStore: counters.bytesToStore,
      bytesFromStore: counters.bytesFromStore,
      problem: ownership.problem === null ? damage : { ...ownership.problem },
      fenced: ownership.isFenced,
    };
  }

  // --- requests ------------------------------------------------------------------------------

  read(offset: number, length: number, options: ReadOptions): ReadResult | Promise<ReadResult> {
    this.#check(offset, length);
    const core = this.#core;
    core.counters.bytesRead += length;
    const held = this.#throttle.enter(length, options.signal);
    if (held !== undefined) return held.then(() => readRange(core, offset, length, options));
    return readRange(core, offset, length, options);
  }

  write(offset: number, data: Buffer, { fua }: WriteOptions): void | Promise<void> {
    this.#check(offset, data.length);
    const held = this.#throttle.enter(data.length);
    const write = () => this.#writer.write(offset, data);
    return this.#answered(held === undefined ? write() : held.then(write), fua);
  }

  trim(offset: number, length: number, { fua }: WriteOptions): void | Promise<void> {
    this.#check(offset, length);
    const first = Math.ceil(offset / blockBytes) * blockBytes;
    const end = Math.floor((offset + length) / blockBytes) * blockBytes;
    if (end <= first) return this.#answered(undefined, fua);
    return this.#zero(first, end - first, fua);
  }

  /** Holes are always room enough for later writes, up to the log's limit: `noHole` changes nothing. */
  writeZeroes(offset: number, length: number, { fua }: WriteOptions): void | Promise<void> {
    this.#check(offset, length);
    return this.#zero(offset, length, fua);
  }

  #zero(offset: number, length: number, fua: boolean): void | Promise<void> {
    const held = this.#throttle.enter(0);
    const zero = () => this.#writer.zero(offset, length);
    return this.#answered(held === undefined ? zero() : held.then(zero), fua);
  }

  #answered(done: void | Promise<void>, fua: boolean): void | Promise<void> {
    if (!fua) return done;
    return done === undefined ? this.#settle() : done.then(() => this.#settle());
  }

  flush(): Promise<void> {
    this.#check(0, 1);
    this.#core.counters.flushes += 1;
    return this.#settle();
  }

  async #settle(): Promise<void> {
    const { ownership, wal } = this.#core;
    if (ownership.manifest.Durability === "remote") await this.#drained()?.stored;
    else await wal.sync();
    ownership.check();
  }

  blockStatus(offset: number, length: number, { maxExtents }: { maxExtents: number }): BlockExtent[] {
    this.#check(offset, length);
    return blockStatus(this.#core, offset, length, maxExtents);
  }

  async cache(offset: number, length: number, { signal }: ReadOptions): Promise<void> {
    this.#check(offset, length);
    const step = 4 * 2 ** 20;
    for (let at = offset; at < offset + length; at += step) {
      await readRange(this.#core, at, Math.min(step, offset + length - at), { signal });
    }
  }

  #check(offset: number, length: number): void {
    if (this.#isClosed || this.#closing !== undefined) throw fail("VOLUME_CLOSED", { id: this.id });
    this.#core.ownership.check();
    if (!(offset >= 0 && length > 0 && offset + length <= this.sizeBytes)) {
      const where = `${length} bytes at ${offset}`;
      throw new NbdError(
        "EINVAL",
        `${where} are not within the ${this.sizeBytes} bytes of volume "${this.id}"`,
      );
    }
  }

  // --- drains --------------------------------------------------------------------------------

  #changed(bytes: number): void {
    const { counters, env, ownership } = this.#core;
    counters.waitingBytes += bytes;
    const changes = counters.changes - counters.captured;
    if (this.#pace.isDue({ bytes: counters.waitingBytes, changes })) this.#drainSoon();
    else if (!this.#isWaiting) {
      this.#isWaiting = true;
      env.clock.sleep(env.drainAfterMs, ownership.ending).then(
        () => {
          this.#isWaiting = false;
          if (counters.changes !== counters.captured) this.#drainSoon();
        },
        () => undefined,
      );
    }
  }

  #drainSoon(): void {
    this.#drained()?.over.catch((error: unknown) => {
      if (!this.#core.ownership.ending.aborted) this.#core.env.log(`${this.id}: ${(error as Error).message}`);
    });
  }

  /** One at a time of all that changes the manifest or the durable map. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#tail.then(() => {
      this.#core.ownership.check();
      return work();
    });
    this.#tail = mine.catch(() => undefined);
    return mine;
  }

  /** The drain with which the store has all that was answered before; undefined where it has it. */
  #drained(): Draining | undefined {
    const { counters } = this.#core;
    if (counters.changes === counters.committed) return undefined;
    if (counters.changes === counters.captured && this.#runningDrain !== undefined) return this.#runningDrain;
    if (this.#nextDrain === undefined) {
      const { promise: stored, resolve, reject } = Promise.withResolvers<void>();
      const over = this.#exclusive(() => {
        this.#nextDrain = undefined;
        this.#runningDrain = draining;
        return this.#drain(resolve);
      });
      over.then(resolve, reject);
      stored.catch(() => undefined); // whoever waits for the whole learns it, too
      const draining = { stored, over };
      this.#nextDrain = draining;
    }
    return this.#nextDrain;
  }

  async #drain(onStored: () => void): Promise<void> {
    const { counters, env } = this.#core;
    const began = env.clock.now();
    const bytes = counters.waitingBytes;
    try {
      await drain(this.#core, this.#unreadable, { onStored });
      this.#pace.took(bytes, env.clock.now() - began);
    } finally {
      this.#runningDrain = undefined;
      this.#after();
    }
  }

  /** A change of the durable map has made room, and garbage. */
  #after(): void {
    this.#writer.room.pump();
    if (this.#core.garbage.size === 0 || this.#sweeping !== undefined) return;
    this.#sweeping = sweep(this.#core).finally(() => (this.#sweeping = undefined));
  }

  async drain({ signal }: { signal?: AbortSignal } = {}): Promise<void> {
    this.#check(0, 1);
    const { ownership } = this.#core;
    // With nothing to put it would not learn that the volume is another host's by now.
    const confirmed = () => this.#exclusive(() => ownership.confirm());
    await unlessAborted(this.#drained()?.over ?? confirmed(), signal);
  }

  // --- verbs ---------------------------------------------------------------------------------

  async resize(sizeBytes: number, { signal }: VerbOptions = {}): Promise<void> {
    this.#check(0, 1);
    if (!isVolumeSize(sizeBytes)) throw sizeWrong(sizeBytes);
    await this.#verb(signal, async () => {
      if (sizeBytes < this.sizeBytes) {
        throw fail("VOLUME_SHRINK", { id: this.id, sizeBytes: this.sizeBytes });
      }
      if (sizeBytes > this.sizeBytes) await this.#core.ownership.swap({ VolumeSize: sizeBytes });
    });
  }

  async change(settings: Partial<VolumeSettings>, { signal }: VerbOptions = {}): Promise<void> {
    this.#check(0, 1);
    const { ownership } = this.#core;
    await this.#verb(signal, async () => {
      const { Durability, Compression, Limits } = ownership.manifest;
      const { durability = Durability, compression = Compression, limits } = settings;
      await ownership.swap({
        Durability: durability,
        Compression: compression,
        Limits: limits === undefined ? Limits : { Iops: limits.iops, BytesPerSecond: limits.bytesPerSecond },
      });
      this.#throttle.change(limitsOf(ownership.manifest));
    });
  }

  async snapshot(options: { name?: string; id?: string } & VerbOptions = {}): Promise<SnapshotInfo> {
    this.#check(0, 1);
    return this.#verb(options.signal, () => takeSnapshot(this.#core, this.#unreadable, options));
  }

  mark(options: { name?: string; id?: string } = {}): VolumeMark {
    this.#check(0, 1);
    const core = this.#core;
    const mark = makeMark(core, options);
    this.#drainSoon();
    return {
      id: mark.id,
      complete: async ({ signal } = {}) => {
        this.#check(0, 1);
        return this.#verb(signal, () => completeMark(core, this.#unreadable, mark));
      },
      abandon: () => dropMark(core, mark),
    };
  }

  async revert(snapshot: string, { signal }: VerbOptions = {}): Promise<void> {
    this.#check(0, 1);
    await this.#verb(signal, () => this.#writer.held(() => revertTo(this.#core, this.#unreadable, snapshot)));
  }

  async removeSnapshot(id: string, { signal }: VerbOptions = {}): Promise<void> {
    this.#check(0, 1);
    await this.#verb(signal, () => removeSnapshot(this.#core, this.#unreadable, id));
  }

  async collectGarbage(options: CollectOptions = {}): Promise<Collected> {
    this.#check(0, 1);
    return this.#verb(options.signal, () => collectGarbage(this.#core, this.#unreadable, options));
  }

  /** Given up before its turn it does nothing; later, it is left to itself. */
  async #verb<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
    let hasBegun = false;
    const done = this.#exclusive(() => {
      signal?.throwIfAborted();
      hasBegun = true;
      return work().finally(() => this.#after());
    });
    try {
      return await unlessAborted(done, signal);
    } catch (error) {
      if (signal?.aborted !== true || error !== signal.reason) throw error;
      throw givenUp(this.#core, hasBegun, error);
    }
  }

  // --- the end -------------------------------------------------------------------------------

  /** After one that has failed (its signal was aborted) only one without a drain is of use. */
  async close(options: { drain?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    const { drain: drains = true, signal } = options;
    if (this.#isClosed) return;
    if (!drains) return this.#abandon();
    this.#closing ??= this.#finish();
    await unlessAborted(this.#closing, signal);
  }

  async #finish(): Promise<void> {
    const { ownership, wal, garbage } = this.#core;
    try {
      if (!ownership.isFenced) {
        await this.#writer.stop();
        await this.#exclusive(async () => {
          await drain(this.#core, this.#unreadable);
          await wal.remove(wal.seal());
          await wal.close().catch(() => undefined); // all of it is in the store
          await this.#sweeping;
          if (garbage.size > 0) await sweep(this.#core, deletesAtOnce);
          await ownership.swap({
            Owner: null,
            WALNum: Math.max(ownership.manifest.WALNum, wal.lastSegment + 1),
          });
          await this.#releases.given();
        });
      }
    } finally {
      await this.#abandon();
    }
  }

  async #abandon(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { ownership, wal } = this.#core;
    ownership.end(fail("VOLUME_CLOSED", { id: this.id }));
    await this.#tail;
    await this.#sweeping;
    try {
      await wal.close();
    } catch (error) {
      this.#core.env.log(`${this.id}: its log cannot be flushed: ${(error as Error).message}`);
    } finally {
      this.#releases.unlock();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close({ drain: false });
  }
}

export function sizeWrong(sizeBytes: number): Error {
  const why =
    sizeBytes % blockBytes === 0 ? "it is not within 4096 and 16 TiB" : "it is not a multiple of 4096";
  return fail("VOLUME_SIZE", { sizeBytes, why });
}
