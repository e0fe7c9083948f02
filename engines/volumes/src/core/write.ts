import { fail } from "../errors.ts";
import type { Live } from "./live.ts";
import { hole, type Visit, zero } from "../map/extent-map.ts";
import { RangeLocks } from "./range-locks.ts";
import { joinPieces, readBlocks } from "./read.ts";
import { blockBytes } from "../types.ts";
import type { Placed, WalEntry } from "../wal/wal.ts";

/** What a writer needs beside the volume: whom to tell that something waits, and where to wait for room. */
export interface WriterOptions {
  live: Live;
  /** So many bytes went to the log. */
  onWritten(bytes: number): void;
}

/** Puts changes into the log and, once they are there, into the overlay. */
export class Writer {
  readonly #live: Live;
  readonly #onWritten: (bytes: number) => void;
  readonly #locks = new RangeLocks();
  readonly #waiting: { bytes: number; resolve(): void; reject(error: unknown): void }[] = [];

  constructor({ live, onWritten }: WriterOptions) {
    this.#live = live;
    this.#onWritten = onWritten;
    live.ending.signal.addEventListener("abort", () => {
      for (const { reject } of this.#waiting.splice(0)) reject(live.ending.signal.reason);
    });
  }

  /** `data` is lent. Answers without a promise where the log does. */
  write(offset: number, data: Uint8Array): void | Promise<void> {
    const block = Math.floor(offset / blockBytes);
    if (offset % blockBytes !== 0 || data.length % blockBytes !== 0) return this.#writePart(offset, data);
    return this.#change(block, block + data.length / blockBytes, () => [{ block, data }]);
  }

  /** Zeroes, or for `trim` nothing in particular, which is zeroes too. */
  zero(offset: number, length: number): void | Promise<void> {
    const first = Math.ceil(offset / blockBytes);
    const end = Math.floor((offset + length) / blockBytes);
    if (first >= end) return this.#writePart(offset, Buffer.alloc(length));
    const head = first * blockBytes - offset;
    const tail = offset + length - end * blockBytes;
    const whole = () => this.#change(first, end, () => [{ block: first, zeroes: end - first }]);
    if (head === 0 && tail === 0) return whole();
    return (async () => {
      if (head > 0) await this.#writePart(offset, Buffer.alloc(head));
      await whole();
      if (tail > 0) await this.#writePart(end * blockBytes, Buffer.alloc(tail));
    })();
  }

  /** What is around it is read and written with it; nobody else changes these blocks meanwhile. */
  #writePart(offset: number, data: Uint8Array): Promise<void> {
    const live = this.#live;
    const first = Math.floor(offset / blockBytes);
    const end = Math.ceil((offset + data.length) / blockBytes);
    return this.#locks.run(first, end, async () => {
      live.check();
      const bytes = Buffer.alloc((end - first) * blockBytes);
      const edges = end - first > 1 ? [first, end - 1] : [first];
      for (const block of edges) {
        const start = Math.max(0, offset - block * blockBytes);
        const stop = Math.min(blockBytes, offset + data.length - block * blockBytes);
        if (start === 0 && stop === blockBytes) continue;
        bytes.set(joinPieces(await readBlocks(live, block, 1)), (block - first) * blockBytes);
      }
      bytes.set(data, offset - first * blockBytes);
      await this.#append([{ block: first, data: bytes }], bytes.length);
    });
  }

  /** Changes whole blocks; in order with whoever changes the same ones. */
  #change(first: number, end: number, entries: () => WalEntry[]): void | Promise<void> {
    const list = entries();
    const bytes = costOf(list);
    if (!this.#locks.isFree(first, end)) return this.#locks.run(first, end, () => this.#append(list, bytes));
    const done = this.#append(list, bytes);
    if (done instanceof Promise) this.#locks.hold(first, end, done);
    return done;
  }

  #append(entries: WalEntry[], bytes: number): void | Promise<void> {
    this.#live.check();
    if (this.#waiting.length > 0 || !this.#hasRoom(bytes)) {
      return this.#room(bytes).then(() => this.#appendNow(entries, bytes));
    }
    return this.#appendNow(entries, bytes);
  }

  #appendNow(entries: WalEntry[], bytes: number): void | Promise<void> {
    const { wal } = this.#live;
    this.#live.check();
    const placed = wal.append(entries);
    if (!(placed instanceof Promise)) return this.#place(entries, placed, bytes);
    return placed.then((places) => this.#place(entries, places, bytes));
  }

  #place(entries: readonly WalEntry[], placed: readonly Placed[], bytes: number): void {
    const live = this.#live;
    // What was acknowledged must be found again: an owner that is no more acknowledges nothing.
    live.check();
    for (const [index, entry] of entries.entries()) {
      const { segment, position } = placed[index] as Placed;
      if ("data" in entry) live.overlay.set(entry.block, entry.data.length / blockBytes, segment, position);
      else placeZeroes(live, entry.block, entry.zeroes);
    }
    this.#onWritten(bytes);
  }

  #hasRoom(bytes: number): boolean {
    const held = this.#live.wal.bytes;
    return (
      held === 0 ||
      held + bytes <= this.#live.context.tuning.walLimitBytes ||
      this.#live.overlay.extents === 0
    );
  }

  #room(bytes: number): Promise<void> {
    this.#onWritten(Number.POSITIVE_INFINITY);
    return new Promise((resolve, reject) => this.#waiting.push({ bytes, resolve, reject }));
  }

  /** The log has become shorter. */
  makeRoom(): void {
    while (this.#waiting.length > 0 && this.#hasRoom(this.#waiting[0]?.bytes ?? 0))
      this.#waiting.shift()?.resolve();
    if (this.#waiting.length > 0) this.#onWritten(Number.POSITIVE_INFINITY);
  }

  get isWaiting(): boolean {
    return this.#waiting.length > 0;
  }
}

function costOf(entries: readonly WalEntry[]): number {
  let bytes = 0;
  for (const entry of entries) bytes += "data" in entry ? entry.data.length : 64;
  return bytes;
}

/**
 * Zeroes lie over what the log or the store has there; where neither has anything, nothing need be said, so
 * that a trim of a large empty volume costs nothing.
 */
export function placeZeroes(live: Live, block: number, count: number): void {
  const runs: number[] = [];
  const end = block + count;
  const collect: Visit = (at, length, source) => {
    if (source !== hole) runs.push(at, length);
  };
  for (const map of [live.overlay, live.durable.extents]) {
    for (let at = map.firstMapped(block, count); at < end; ) {
      const stop = Math.min(end, at + 4096);
      map.forRange(at, stop - at, collect);
      at = map.firstMapped(stop, end - stop);
    }
  }
  for (let i = 0; i < runs.length; i += 2)
    live.overlay.set(runs[i] as number, runs[i + 1] as number, zero, 0);
}

/** RangeError where it is not within the volume. */
export function checkRange(live: Live, offset: number, length: number): void {
  const { VolumeSize } = live.keeper.manifest;
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 0 ||
    offset + length > VolumeSize
  ) {
    throw fail("VOLUME_RANGE", { id: live.id, offset, end: offset + length, sizeBytes: VolumeSize });
  }
}
