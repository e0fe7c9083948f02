import { join } from "node:path";
import { fail } from "../errors.ts";
import { entryBytes, type SlotOf, slotCount, slotsOf, type WalEntry } from "./entry.ts";
import type { WalGap } from "./gaps.ts";
import { type OpenedSegments, openSegments } from "./open.ts";
import type { Placed, WalOptions } from "./options.ts";
import { createSegment, headerBytes, removeFile, type Segment, segmentName } from "./segment.ts";
import { dataSlotBytes, parseSlot, slotData, writeSlot } from "./slot.ts";
import { SyncRounds } from "./sync.ts";

export type { WalEntry } from "./entry.ts";
export type { Placed, SegmentKeys, WalOptions } from "./options.ts";

const defaultSegmentBytes = 64 * 1024 * 1024;
const defaultEarlySyncBytes = 16 * 1024 * 1024;
/** An append is staged and written in pieces of at most this; up to one piece is written in place. */
const stagingBytes = 1024 * 1024;
/** More than a slot with its block. */
const stagingSlack = 8192;
const inPlaceReadBytes = 256 * 1024;

interface Waiting {
  entries: readonly WalEntry[];
  bytes: number;
  resolve: (placed: Placed[]) => void;
  reject: (error: unknown) => void;
}

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
  #heard: bigint;
  #sealed: bigint;
  #staging: Buffer | undefined;
  /** Numbers above it are without gaps (FORMAT.md). */
  readonly #since: bigint;
  /** What the replay missed. */
  readonly gaps: readonly WalGap[];
  readonly #waiting: Waiting[] = [];
  /** Appends that are under way or wait for those before them. */
  #pending = 0;
  #writing: Promise<void> | undefined;
  #isClosed = false;

  /**
   * Replays what has higher numbers than `sequence` of the segments from `firstSegment` on whose word is this one, deletes the earlier ones, and has
   * what it found on stable storage before it resolves. Segments of another word or volume stay as they are.
   */
  static async open(options: WalOptions): Promise<Wal> {
    return new Wal(options, await openSegments(options));
  }

  private constructor(options: WalOptions, found: OpenedSegments) {
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? defaultSegmentBytes;
    this.#segments = new Map(found.segments.map((segment) => [segment.number, segment]));
    this.#nextNumber = found.nextNumber;
    this.#sequence = found.sequence;
    this.#heard = found.sequence;
    this.#sealed = found.sequence;
    this.#since = found.since;
    this.gaps = found.gaps;
    const { files, directory, earlySyncBytes = defaultEarlySyncBytes } = options;
    this.#rounds = new SyncRounds(files, directory, found.sequence, earlySyncBytes);
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

  /** Of the last slot that its appender has heard of. */
  get sequence(): bigint {
    return this.#heard;
  }

  /** `sequence` at the last `seal`: the manifest's `SeqNum` once what was captured then is in the store. */
  get sealedSequence(): bigint {
    return this.#sealed;
  }

  /**
   * Writes all entries to one segment, or none of them: an error of the system (ENOSPC) leaves the log as it
   * was. Answers without a promise where the disk is quick. Where it answers with one, take note of the
   * places in the first reaction to it, with no other promise between: `seal` relies on that.
   */
  append(entries: readonly WalEntry[]): Placed[] | Promise<Placed[]> {
    this.#checkUsable();
    if (entries.length === 0) return [];
    const bytes = this.#bytesOf(entries);
    const current = this.#current;
    if (
      this.#pending === 0 &&
      current !== undefined &&
      bytes <= stagingBytes &&
      this.#fits(current, bytes) &&
      this.#options.pace.quick()
    ) {
      return this.#appendInPlace(current, entries, bytes);
    }
    return new Promise((resolve, reject) => {
      this.#pending += 1;
      this.#waiting.push({ entries, bytes, resolve, reject });
      this.#writing ??= this.#writeWaiting();
    });
  }

  #checkUsable(): void {
    if (this.#isClosed) throw this.#closed();
    this.#rounds.check();
  }

  #closed(): Error {
    return fail("VOLUME_CLOSED", { id: this.#options.volume });
  }

  #bytesOf(entries: readonly WalEntry[]): number {
    const isEncrypted = this.#options.key !== null;
    let bytes = 0;
    for (const entry of entries) bytes += entryBytes(entry, isEncrypted);
    return bytes;
  }

  #fits(segment: Segment, bytes: number): boolean {
    return segment.bytes === headerBytes || segment.bytes + bytes <= this.#segmentBytes;
  }

  #appendInPlace(segment: Segment, entries: readonly WalEntry[], bytes: number): Placed[] {
    const before = this.#sequence;
    const placed = this.#places(segment, entries);
    const piece = this.#fill(segment, slotsOf(entries), bytes, segment.bytes);
    try {
      this.#options.pace.inPlace(() => segment.file.writeSync([piece], segment.bytes));
    } catch (error) {
      this.#sequence = before;
      this.#pending += 1;
      this.#writing = this.#cutOff(segment).then(() => {
        this.#pending -= 1;
        return this.#writeWaiting();
      });
      throw error;
    }
    this.#written(segment, segment.bytes + bytes);
    this.#heard = this.#sequence;
    return placed;
  }

  #written(segment: Segment, end: number): void {
    const bytes = end - segment.bytes;
    segment.bytes = end;
    this.#rounds.written(segment, this.#sequence, bytes);
  }

  /** One write after another; while one is under way others gather, and go out together. */
  async #writeWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#takeBatch();
      try {
        const placed = await this.#write(batch.entries, batch.bytes);
        for (const append of batch.appends) this.#answer(append, placed.splice(0, append.entries.length));
      } catch (error) {
        for (const { reject } of batch.appends) reject(error);
        this.#pending -= batch.appends.length;
      }
    }
    this.#writing = undefined;
  }

  /** A seal counts it as placed from right before its caller hears of it: in the same row of microtasks. */
  #answer({ entries, resolve }: Waiting, placed: Placed[]): void {
    let slots = 0;
    for (const entry of entries) slots += slotCount(entry);
    queueMicrotask(() => {
      this.#pending -= 1;
      this.#heard += BigInt(slots);
    });
    resolve(placed);
  }

  #takeBatch(): { appends: Waiting[]; entries: WalEntry[]; bytes: number } {
    let count = 0;
    let bytes = 0;
    for (const waiting of this.#waiting) {
      if (count > 0 && bytes + waiting.bytes > stagingBytes) break;
      count += 1;
      bytes += waiting.bytes;
    }
    const appends = this.#waiting.splice(0, count);
    return { appends, entries: appends.flatMap(({ entries }) => entries), bytes };
  }

  async #write(entries: readonly WalEntry[], bytes: number): Promise<Placed[]> {
    this.#rounds.check();
    if (this.#current !== undefined && !this.#fits(this.#current, bytes)) this.#end();
    const segment = this.#current ?? (await this.#create());
    const before = this.#sequence;
    const placed = this.#places(segment, entries);
    const slots = slotsOf(entries);
    const end = segment.bytes + bytes;
    try {
      for (let at = segment.bytes; at < end; ) {
        const piece = this.#fill(segment, slots, end - at, at);
        if (bytes <= stagingBytes && this.#options.pace.quick()) {
          this.#options.pace.inPlace(() => segment.file.writeSync([piece], at));
        } else {
          await segment.file.write([piece], at);
        }
        at += piece.length;
      }
    } catch (error) {
      this.#sequence = before;
      await this.#cutOff(segment);
      throw error;
    }
    this.#written(segment, end);
    // A sync may have failed meanwhile: then nothing is answered any more.
    this.#rounds.check();
    return placed;
  }

  #places(segment: Segment, entries: readonly WalEntry[]): Placed[] {
    let position = segment.bytes;
    return entries.map((entry) => {
      const place = { segment: segment.number, position };
      position += entryBytes(entry, segment.context.encrypted);
      return place;
    });
  }

  /** The next slots in one buffer: all that is left, or as many as it takes. */
  #fill(segment: Segment, slots: Iterator<SlotOf>, left: number, position: number): Buffer {
    const largest = dataSlotBytes(segment.context.encrypted);
    const target = this.#stage(Math.min(left, stagingBytes));
    const { synced } = this.#rounds;
    let at = 0;
    while (at < left && at + largest <= target.length) {
      const { value, done } = slots.next();
      if (done === true) break;
      this.#sequence += 1n;
      const { block, count, data } = value;
      const slot = { sequence: this.#sequence, synced, block, count, data };
      at += writeSlot(segment.context, target, at, position + at, slot);
    }
    return target.subarray(0, at);
  }

  /** With room for one slot more, so that `#fill` ends at the last one. */
  #stage(bytes: number): Buffer {
    if (this.#staging === undefined || this.#staging.length < bytes + stagingSlack) {
      this.#staging = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(bytes)) + stagingSlack);
    }
    return this.#staging;
  }

  async #create(): Promise<Segment> {
    const number = this.#nextNumber;
    this.#nextNumber += 1;
    const segment = await createSegment(this.#options, number, this.#since);
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
   * nothing that comes later is. While an append is under way, its segment counts as later: of what it has
   * already, `sealedSequence` says what is captured now.
   */
  seal(): number {
    this.#sealed = this.#heard;
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
    if (this.#isClosed) throw this.#closed();
    await this.#rounds.sync();
  }

  /** Blocks from the place of one on, in memory that is lent; VOLUME_DAMAGED where a check or a tag does not fit. */
  read(
    segmentNumber: number,
    position: number,
    count: number,
    lend: (lengthBytes: number) => Buffer = (lengthBytes) => Buffer.allocUnsafeSlow(lengthBytes),
  ): Uint8Array[] | Promise<Uint8Array[]> {
    const segment = this.#segments.get(segmentNumber);
    if (this.#isClosed) throw this.#closed();
    if (segment === undefined) {
      throw this.#damaged(join(this.#options.directory, segmentName(segmentNumber)), "it is not there");
    }
    const { encrypted } = segment.context;
    // Of what is encrypted the answer is other memory.
    const memory = encrypted ? Buffer.allocUnsafeSlow : lend;
    const bytes = memory(count * dataSlotBytes(encrypted));
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

  /** Lets appends end, syncs, and closes its files even where that fails. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#writing;
    try {
      await this.#rounds.sync();
    } finally {
      for (const segment of this.#segments.values()) await segment.release();
      this.#segments.clear();
      this.#staging = undefined;
    }
  }
}
