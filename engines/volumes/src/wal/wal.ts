import { join } from "node:path";
import type { Files } from "@skep/objects/files";
import { fail } from "../errors.ts";
import type { Pace } from "../pace.ts";
import { blockBytes } from "../types.ts";
import { openSegments } from "./open.ts";
import { encodeHeader, headerBytes, type ReplayEntry, removeFile, Segment, segmentName } from "./segment.ts";
import { dataSlotBytes, maxZeroes, parseSlot, slotBytes, slotData, writeSlot } from "./slot.ts";
import { SyncRounds } from "./sync.ts";

/** Data is a multiple of 4,096 bytes, lent until the append is done. */
export type WalEntry = { block: number; data: Uint8Array } | { block: number; zeroes: number };

/** Where an entry's first slot lies; those of its other blocks follow it. */
export interface Placed {
  segment: number;
  position: number;
}

/** What of a volume's key the log needs: 32 bytes for one segment (keys.ts). */
export interface SegmentKeys {
  segmentKey(salt: bigint, number: number): Uint8Array;
}

export interface WalOptions {
  files: Files;
  /** `…/volumes/<id>/wal`; made where it is missing. */
  directory: string;
  /** `vol-…` */
  volume: string;
  /** `Owner.Wal`: the same for as long as segments with it are needed. */
  word: bigint;
  /** For the headers of new segments. */
  epoch: number;
  /** `WALNum`. */
  firstSegment: number;
  /** `SeqNum`: later slots are numbered from above it. */
  sequence?: bigint;
  key: SegmentKeys | null;
  /** 64 MiB where it is not given. */
  segmentBytes?: number;
  random: (bytes: number) => Uint8Array;
  pace: Pace;
  replay?: (entry: ReplayEntry) => void;
  log?: (message: string) => void;
}

const defaultSegmentBytes = 64 * 1024 * 1024;
/** An append is staged and written in pieces of at most this; up to one piece is written in place. */
const stagingBytes = 1024 * 1024;
const inPlaceReadBytes = 256 * 1024;

/**
 * A volume's write-ahead log on this host (FORMAT.md). One process uses a directory at a time. When an append
 * has returned, the death of the process loses nothing of it; after a sync, nor does a power loss.
 */
export class Wal {
  readonly #options: WalOptions;
  readonly #segmentBytes: number;
  readonly #segments: Map<number, Segment>;
  readonly #rounds: SyncRounds;
  #current: Segment | undefined;
  #nextNumber: number;
  #sequence: bigint;
  #staging: Buffer | undefined;
  /** Appends that are under way or wait for those before them. */
  #pending = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  /**
   * Replays the segments from `firstSegment` on whose word is this one, deletes the earlier ones, and has
   * what it found on stable storage before it resolves. Segments of another word or volume stay as they are.
   */
  static async open(options: WalOptions): Promise<Wal> {
    return new Wal(options, await openSegments(options));
  }

  private constructor(options: WalOptions, found: Awaited<ReturnType<typeof openSegments>>) {
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? defaultSegmentBytes;
    this.#segments = new Map(found.segments.map((segment) => [segment.number, segment]));
    this.#nextNumber = found.nextNumber;
    this.#sequence = found.sequence;
    this.#rounds = new SyncRounds(options.files, options.directory);
  }

  /** Of all segments, headers and torn ends included. */
  get bytes(): number {
    let total = 0;
    for (const segment of this.#segments.values()) total += segment.bytes;
    return total;
  }

  get segments(): number {
    return this.#segments.size;
  }

  /** The highest number that was ever given to a segment. */
  get lastSegment(): number {
    return this.#nextNumber - 1;
  }

  /** Of the last slot. */
  get sequence(): bigint {
    return this.#sequence;
  }

  /**
   * Writes all entries to one segment, or none of them: an error of the system (ENOSPC) leaves the log as it
   * was. Answers without a promise where the disk is quick. Where it answers with one, take note of the
   * places in the first reaction to it, with no other promise between: `seal` relies on that.
   */
  append(entries: readonly WalEntry[]): Placed[] | Promise<Placed[]> {
    this.#checkUsable();
    if (entries.length === 0) return [];
    const total = this.#bytesOf(entries);
    const current = this.#current;
    if (
      this.#pending === 0 &&
      current !== undefined &&
      total <= stagingBytes &&
      this.#fits(current, total) &&
      this.#options.pace.quick()
    ) {
      return this.#appendInPlace(current, entries, total);
    }
    return new Promise((resolve, reject) => {
      this.#pending += 1;
      const work = this.#tail.then(() => this.#appendLater(entries, total));
      this.#tail = work.then(
        (placed) => {
          resolve(placed);
          // Only once the caller has heard of it may a seal count it as placed.
          queueMicrotask(() => (this.#pending -= 1));
        },
        (error: unknown) => {
          reject(error);
          this.#pending -= 1;
        },
      );
    });
  }

  #checkUsable(): void {
    if (this.#isClosed) throw fail("VOLUME_CLOSED", { id: this.#options.volume });
    this.#rounds.check();
  }

  #bytesOf(entries: readonly WalEntry[]): number {
    const encrypted = this.#options.key !== null;
    let total = 0;
    for (const entry of entries) {
      total +=
        "data" in entry
          ? (entry.data.length / blockBytes) * dataSlotBytes(encrypted)
          : Math.ceil(entry.zeroes / maxZeroes) * slotBytes(encrypted);
    }
    return total;
  }

  #fits(segment: Segment, bytes: number): boolean {
    return segment.bytes === headerBytes || segment.bytes + bytes <= this.#segmentBytes;
  }

  #appendInPlace(segment: Segment, entries: readonly WalEntry[], total: number): Placed[] {
    const { placed, slots } = this.#places(segment, entries);
    const start = segment.bytes;
    const piece = this.#fill(segment, slots, total);
    try {
      this.#options.pace.inPlace(() => segment.file.writeSync([piece], start));
    } catch (error) {
      this.#pending += 1;
      this.#tail = this.#cutOff(segment).finally(() => (this.#pending -= 1));
      throw error;
    }
    segment.bytes += piece.length;
    this.#rounds.written(segment);
    return placed;
  }

  async #appendLater(entries: readonly WalEntry[], total: number): Promise<Placed[]> {
    this.#checkUsable();
    if (this.#current !== undefined && !this.#fits(this.#current, total)) this.#end();
    const segment = this.#current ?? (await this.#create());
    const { placed, slots } = this.#places(segment, entries);
    let at = segment.bytes;
    try {
      for (let left = total; left > 0; ) {
        const piece = this.#fill(segment, slots, left, at);
        if (total <= stagingBytes && this.#options.pace.quick()) {
          this.#options.pace.inPlace(() => segment.file.writeSync([piece], at));
        } else {
          await segment.file.write([piece], at);
        }
        at += piece.length;
        left -= piece.length;
      }
    } catch (error) {
      await this.#cutOff(segment);
      throw error;
    }
    segment.bytes = at;
    this.#rounds.written(segment);
    return placed;
  }

  /** The entries' places, and their slots one after another. */
  #places(segment: Segment, entries: readonly WalEntry[]): { placed: Placed[]; slots: Iterator<SlotOf> } {
    const placed: Placed[] = [];
    let position = segment.bytes;
    for (const entry of entries) {
      placed.push({ segment: segment.number, position });
      position += this.#bytesOf([entry]);
    }
    return { placed, slots: slotsOf(entries) };
  }

  /** The next slots in one buffer, as many as it takes. */
  #fill(segment: Segment, slots: Iterator<SlotOf>, left: number, from = segment.bytes): Buffer {
    const largest = dataSlotBytes(segment.context.encrypted);
    const target = this.#stage(Math.min(left, stagingBytes));
    let at = 0;
    while (at < left && at + largest <= Math.max(target.length, largest)) {
      const { value, done } = slots.next();
      if (done === true) break;
      this.#sequence += 1n;
      at += writeSlot(segment.context, target, at, from + at, { sequence: this.#sequence, ...value });
    }
    return target.subarray(0, at);
  }

  #stage(bytes: number): Buffer {
    if (this.#staging === undefined || this.#staging.length < bytes) {
      const size = Math.max(8192, 2 ** Math.ceil(Math.log2(bytes)) + 8192);
      this.#staging = Buffer.allocUnsafeSlow(size);
    }
    return this.#staging;
  }

  async #create(): Promise<Segment> {
    const { files, directory, epoch, volume, word, key, random } = this.#options;
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    const path = join(directory, segmentName(number));
    const salt = Buffer.from(random(8)).readBigUInt64LE();
    const encrypted = key !== null;
    const context = { salt, encrypted, key: key?.segmentKey(salt, number) ?? null };
    const file = await files.open(path, "create");
    try {
      await file.write([encodeHeader({ number, epoch, salt, volume, word, encrypted })], 0);
    } catch (error) {
      await file.close();
      await removeFile(files, path);
      throw error;
    }
    const segment = new Segment({ number, path, file, context, bytes: headerBytes });
    this.#segments.set(number, segment);
    this.#current = segment;
    this.#rounds.created(segment);
    return segment;
  }

  /**
   * Takes away what a failed append has left. Nothing more goes to this segment: with a key, no place of it
   * may be written twice. One that has nothing else is deleted.
   */
  async #cutOff(segment: Segment): Promise<void> {
    if (this.#current === segment) this.#current = undefined;
    try {
      await segment.file.truncate(segment.bytes);
      if (segment.bytes === headerBytes) {
        await removeFile(this.#options.files, segment.path);
        await this.#forget(segment);
      }
    } catch (error) {
      // It is a torn end then, and a replay stops before it or takes a write whose fate is open anyway.
      this.#options.log?.(`${segment.path}: what a failed write has left stays: ${(error as Error).message}`);
    }
  }

  #end(): void {
    this.#current = undefined;
  }

  /**
   * All that was appended, and that its caller has heard of, is in segments up to the returned number, and
   * nothing that comes later is. While an append is under way, its segment counts as later: what is there
   * already is then captured now, and replayed once more after a crash.
   */
  seal(): number {
    const current = this.#current;
    if (this.#pending > 0) {
      // The append that is being written ends in its segment, those that wait go to a new one.
      this.#end();
      return current === undefined ? this.#nextNumber - 2 : current.number - 1;
    }
    this.#staging = undefined;
    if (current === undefined) return this.#nextNumber - 1;
    if (current.bytes === headerBytes) return current.number - 1;
    this.#end();
    return current.number;
  }

  /** Resolves when all that was appended before is on stable storage. */
  async sync(): Promise<void> {
    this.#checkUsable();
    await this.#rounds.sync();
  }

  /** Blocks from the place of one on; VOLUME_DAMAGED where a check or a tag does not fit. */
  read(segmentNumber: number, position: number, count: number): Uint8Array[] | Promise<Uint8Array[]> {
    const segment = this.#segments.get(segmentNumber);
    if (segment === undefined) {
      throw this.#damaged(join(this.#options.directory, segmentName(segmentNumber)), "it is not there");
    }
    const bytes = Buffer.allocUnsafeSlow(count * dataSlotBytes(segment.context.encrypted));
    const { pace } = this.#options;
    if (bytes.length <= inPlaceReadBytes && pace.quick()) {
      const length = pace.inPlace(() => segment.file.readSync(bytes, position));
      return this.#blocks(segment, position, bytes.subarray(0, length), count);
    }
    return segment.use(async () => {
      const length = await segment.file.read(bytes, position);
      return this.#blocks(segment, position, bytes.subarray(0, length), count);
    });
  }

  #blocks(segment: Segment, position: number, bytes: Buffer, count: number): Uint8Array[] {
    const blocks: Uint8Array[] = [];
    for (let at = 0; blocks.length < count; ) {
      const slot = parseSlot(segment.context, bytes, at);
      const data =
        slot === undefined || slot.zeroes
          ? undefined
          : slotData(segment.context, bytes, at, position + at, slot.bytes);
      if (slot === undefined || data === undefined) {
        throw this.#damaged(segment.path, `the slot at ${position + at} is not what was written`);
      }
      blocks.push(data);
      at += slot.bytes;
    }
    return blocks;
  }

  #damaged(object: string, why: string): Error {
    return fail("VOLUME_DAMAGED", { id: this.#options.volume, object, why });
  }

  /** Deletes segments up to a number that `seal` gave; reads that are under way end well. */
  async remove(upTo: number): Promise<void> {
    for (const segment of [...this.#segments.values()]) {
      if (segment.number > upTo || segment === this.#current) continue;
      await removeFile(this.#options.files, segment.path);
      await this.#forget(segment);
    }
  }

  async #forget(segment: Segment): Promise<void> {
    if (!this.#segments.delete(segment.number)) return;
    this.#rounds.removed(segment);
    await segment.release();
  }

  /** Syncs, and closes its files even where that fails. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    await this.#tail;
    this.#isClosed = true;
    try {
      await this.#rounds.sync();
    } finally {
      for (const segment of this.#segments.values()) await segment.release();
      this.#segments.clear();
      this.#staging = undefined;
    }
  }
}

interface SlotOf {
  block: number;
  count: number;
  data: Uint8Array | null;
}

function* slotsOf(entries: readonly WalEntry[]): Generator<SlotOf, undefined> {
  for (const entry of entries) {
    if ("data" in entry) {
      for (let at = 0; at < entry.data.length; at += blockBytes) {
        const data = entry.data.subarray(at, at + blockBytes);
        yield { block: entry.block + at / blockBytes, count: 1, data };
      }
    } else {
      for (let at = 0; at < entry.zeroes; at += maxZeroes) {
        yield { block: entry.block + at, count: Math.min(maxZeroes, entry.zeroes - at), data: null };
      }
    }
  }
}
