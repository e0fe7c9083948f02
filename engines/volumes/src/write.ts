import { BlockLocks } from "./block-locks.ts";
import type { Core } from "./core.ts";
import { fail } from "./errors.ts";
import { zero } from "./map/extent-map.ts";
import { codeOf } from "./objects.ts";
import { readBlocks } from "./read.ts";
import { Room } from "./room.ts";
import { blockBytes } from "./types.ts";
import type { Placed, WalEntry } from "./wal/wal.ts";

const never = new AbortController().signal;

/** Changes of a volume: each is in the log and in the overlay when it is answered. */
export class Writer {
  readonly #core: Core;
  readonly #changed: (bytes: number) => void;
  readonly #locks = new BlockLocks();
  readonly room: Room;
  #isStopped = false;

  /** `changed` is told of all that waits for a drain, `needed` when nothing more can be written before one. */
  constructor(core: Core, changed: (bytes: number) => void, needed: () => void) {
    this.#core = core;
    this.#changed = changed;
    this.#needed = needed;
    this.room = new Room((bytes) => this.#fits(bytes), needed, core.ownership.ending);
  }
  readonly #needed: () => void;

  /** Refuses all that has not reached the log yet, and waits for what is on its way into it. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    using _all = await this.#locks.wait(0, Number.POSITIVE_INFINITY, true);
  }

  /** Does something while nothing is written: what is on its way into the log gets there first, the rest waits. */
  async held<T>(work: () => Promise<T>): Promise<T> {
    using _all = await this.#locks.wait(0, Number.POSITIVE_INFINITY, true);
    return await work();
  }

  #fits(bytes: number): boolean {
    const { wal, counters, env } = this.#core;
    // With nothing to drain it would wait for ever.
    return wal.bytes + bytes <= env.walLimitBytes || counters.changes === counters.committed;
  }

  /** `data` is lent until this is answered. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    const bytes = (data.length / blockBytes) * this.#core.slotBytes;
    if (!this.room.has(bytes)) return this.room.enter(bytes, () => this.#write(offset, data));
    return this.#write(offset, data);
  }

  zero(offset: number, length: number): void | Promise<void> {
    if (!this.room.has(3 * this.#core.slotBytes)) {
      return this.room.enter(3 * this.#core.slotBytes, () => this.#zero(offset, length));
    }
    return this.#zero(offset, length);
  }

  #write(offset: number, data: Uint8Array): void | Promise<void> {
    const block = offset / blockBytes;
    const isWhole = offset % blockBytes === 0 && data.length % blockBytes === 0;
    if (isWhole) {
      return this.#locked(block, block + data.length / blockBytes, false, () =>
        this.#append([{ block, data }]),
      );
    }
    const first = Math.floor(block);
    const end = Math.ceil((offset + data.length) / blockBytes);
    return this.#locked(first, end, true, () => this.#merge(first, end, offset - first * blockBytes, data));
  }

  /** Whole blocks become holes; edges are written as zeroes. */
  #zero(offset: number, length: number): void | Promise<void> {
    const first = Math.ceil(offset / blockBytes);
    const end = Math.floor((offset + length) / blockBytes);
    const isWhole = first * blockBytes === offset && end * blockBytes === offset + length;
    if (isWhole) {
      return this.#locked(first, end, false, () => this.#append([{ block: first, zeroes: end - first }]));
    }
    const from = Math.floor(offset / blockBytes);
    const to = Math.ceil((offset + length) / blockBytes);
    return this.#locked(from, to, true, () => this.#zeroEdges(offset, length));
  }

  async #zeroEdges(offset: number, length: number): Promise<void> {
    const from = Math.floor(offset / blockBytes);
    const to = Math.ceil((offset + length) / blockBytes);
    const first = Math.ceil(offset / blockBytes);
    const end = Math.floor((offset + length) / blockBytes);
    const entries: WalEntry[] = [];
    const edge = async (block: number) => {
      const whole = await this.#whole(block, block + 1);
      const start = Math.max(0, offset - block * blockBytes);
      whole.fill(0, start, Math.min(blockBytes, offset + length - block * blockBytes));
      entries.push({ block, data: whole });
    };
    if (from < first) await edge(from);
    if (end > first) entries.push({ block: first, zeroes: end - first });
    if (to > end && to - 1 >= first) await edge(to - 1);
    await this.#append(entries);
  }

  /** A write of parts of blocks: what else is in the first and the last one stays. */
  #merge(first: number, end: number, skip: number, data: Uint8Array): void | Promise<void> {
    const length = (end - first) * blockBytes;
    const tail = skip + data.length;
    const write = (head: Uint8Array | undefined, foot: Uint8Array | undefined) => {
      const whole = Buffer.allocUnsafe(length);
      if (head !== undefined) whole.set(head, 0);
      if (foot !== undefined) whole.set(foot, length - blockBytes);
      whole.set(data, skip);
      return this.#append([{ block: first, data: whole }]);
    };
    const head = skip > 0 || end - first === 1 ? this.#whole(first, first + 1) : undefined;
    const foot = tail < length && end - first > 1 ? this.#whole(end - 1, end) : undefined;
    if (head instanceof Promise || foot instanceof Promise) {
      return Promise.all([head, foot]).then(([one, other]) => write(one, other));
    }
    return write(head, foot);
  }

  #whole(first: number, end: number): Buffer | Promise<Buffer> {
    const parts = readBlocks(this.#core, first, end - first, { signal: never });
    return parts instanceof Promise ? parts.then(joined) : joined(parts);
  }

  #locked(
    first: number,
    end: number,
    exclusive: boolean,
    work: () => void | Promise<void>,
  ): void | Promise<void> {
    const locks = this.#locks;
    if (!locks.isIdle) {
      const lock = locks.take(first, end, exclusive);
      if (lock === undefined) return this.#lockedLater(first, end, exclusive, work);
      return this.#holding(lock, work);
    }
    // What has its answer at hand needs no lock; else nobody has come between.
    const result = work();
    if (!(result instanceof Promise)) return;
    const lock = locks.take(first, end, exclusive);
    return result.finally(() => lock?.[Symbol.dispose]());
  }

  async #holding(lock: Disposable, work: () => void | Promise<void>): Promise<void> {
    using _lock = lock;
    await work();
  }

  async #lockedLater(
    first: number,
    end: number,
    exclusive: boolean,
    work: () => void | Promise<void>,
  ): Promise<void> {
    using _lock = await this.#locks.wait(first, end, exclusive);
    await work();
  }

  #append(entries: WalEntry[]): void | Promise<void> {
    const { ownership, wal, id } = this.#core;
    ownership.check();
    if (this.#isStopped) throw fail("VOLUME_CLOSED", { id });
    let placed: Placed[] | Promise<Placed[]>;
    try {
      placed = wal.append(entries);
    } catch (error) {
      throw this.#refused(error);
    }
    // In the first reaction, as the log demands.
    if (placed instanceof Promise) {
      return placed.then(
        (places) => this.#placed(entries, places),
        (error: unknown) => {
          throw this.#refused(error);
        },
      );
    }
    this.#placed(entries, placed);
  }

  #refused(error: unknown): unknown {
    // A drain makes room on the disk too.
    if (codeOf(error) === "ENOSPC") this.#needed();
    return error;
  }

  #placed(entries: WalEntry[], places: Placed[]): void {
    const { overlay, counters, ownership } = this.#core;
    let bytes = 0;
    for (let i = 0; i < entries.length; i += 1) {
      const entry = entries[i] as WalEntry;
      const { segment, position } = places[i] as Placed;
      if ("data" in entry) {
        overlay.set(entry.block, entry.data.length / blockBytes, segment, position);
        bytes += entry.data.length;
      } else overlay.set(entry.block, entry.zeroes, zero, segment);
    }
    counters.changes += 1;
    counters.bytesWritten += bytes;
    this.#changed(bytes);
    // It may have lost the volume while the disk was slow: then nothing is acknowledged.
    ownership.check();
  }
}

function joined(parts: readonly (Uint8Array | { zeroes: number })[]): Buffer {
  const pieces = parts.map((part) => (part instanceof Uint8Array ? part : Buffer.alloc(part.zeroes)));
  return Buffer.concat(pieces);
}
