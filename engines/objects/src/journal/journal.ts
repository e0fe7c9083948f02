import { isErrno } from "@skep/base";
import { fail } from "../errors.ts";
import type { Files, SyncFile } from "../files.ts";
import { type StorePaths, segmentNumber } from "../paths.ts";
import { encodeRecord, markBytes, type NewRecord } from "./record.ts";
import {
  encodeSegmentHeader,
  readSegmentHeader,
  type ScannedDamage,
  type ScannedRecord,
  scanSegment,
  segmentHeaderBytes,
} from "./segment.ts";

/** What is written at once: the records of one batch, from `start` on. */
export interface Batch {
  readonly start: number;
  readonly buffers: readonly Uint8Array[];
  /** Where they end. */
  readonly position: number;
}

/** The segments of a store's journal; only the last, the head, is written to. */
export class Journal {
  readonly #files: Files;
  readonly #paths: StorePaths;
  readonly #random: (bytes: number) => Uint8Array;
  #segments: number[] = [];
  #head!: SyncFile;
  #mark: Uint8Array = new Uint8Array(markBytes);
  #position = 0;
  /** Of the segments before the head. */
  #closedBytes = 0;
  /** Set where a failed write could not be taken back: what the head holds is not known. */
  failure: unknown;

  private constructor(files: Files, paths: StorePaths, random: (bytes: number) => Uint8Array) {
    this.#files = files;
    this.#paths = paths;
    this.#random = random;
  }

  /** Finds the segments, makes the first where there is none. STORE_DAMAGED, FILE_VERSION. */
  static open(files: Files, paths: StorePaths, random: (bytes: number) => Uint8Array): Journal {
    const journal = new Journal(files, paths, random);
    files.mkdirSync(paths.journal);
    files.mkdirSync(paths.blobs);
    files.syncDirectorySync(paths.directory);
    journal.#segments = files
      .readdirSync(paths.journal)
      .map(segmentNumber)
      .filter((number) => number !== undefined)
      .sort((one, other) => one - other);
    journal.#openHead();
    // A process that was killed may have made a segment, or written to one, without flushing it. What is
    // built upon from now on must not go with the next power loss.
    journal.#head.datasync();
    files.syncDirectorySync(paths.journal);
    for (const number of journal.#segments.slice(0, -1)) journal.#closedBytes += journal.#sizeOf(number);
    return journal;
  }

  get segments(): readonly number[] {
    return this.#segments;
  }

  get headSegment(): number {
    return this.#segments.at(-1) as number;
  }

  /** Where the next batch begins. */
  get position(): number {
    return this.#position;
  }

  /** Nothing was ever written to it. */
  get isEmpty(): boolean {
    return this.#segments.length === 1 && this.#position === segmentHeaderBytes;
  }

  get sizeBytes(): number {
    return this.#closedBytes + this.#position;
  }

  #openHead(): void {
    const head = this.#segments.at(-1);
    if (head === undefined) {
      this.#create(1);
      return;
    }
    const path = this.#paths.segment(head);
    const file = this.#files.openSync(path, "write");
    try {
      const mark = readSegmentHeader(file, path);
      if (mark !== undefined) {
        this.#use(file, mark, file.size());
        return;
      }
      if (file.size() > segmentHeaderBytes) {
        throw fail("STORE_DAMAGED", { path: this.#paths.directory, why: `${path} has no header` });
      }
    } catch (error) {
      file.close();
      throw error;
    }
    // A crash came between the file's making and its header's: nothing was ever written to it.
    file.close();
    this.#segments.pop();
    this.#create(head);
  }

  #create(number: number): void {
    const file = this.#files.openSync(this.#paths.segment(number), "write");
    try {
      // What an earlier attempt may have left.
      file.truncate(0);
      const mark = this.#random(markBytes);
      file.write([encodeSegmentHeader(number, mark)], 0);
      file.datasync();
      this.#files.syncDirectorySync(this.#paths.journal);
      this.#segments.push(number);
      this.#use(file, mark, segmentHeaderBytes);
    } catch (error) {
      file.close();
      throw error;
    }
  }

  #use(file: SyncFile, mark: Uint8Array, position: number): void {
    this.#head?.close();
    this.#head = file;
    this.#mark = mark;
    this.#position = position;
  }

  /** Begins a new head. */
  roll(): void {
    const closed = this.#position;
    this.#create(this.headSegment + 1);
    this.#closedBytes += closed;
  }

  encode(record: NewRecord): Buffer {
    return encodeRecord(this.#mark, record);
  }

  /** On stable storage when it returns; where it throws nothing was written, or `failure` is set. */
  append(batch: Batch): void {
    try {
      this.#head.write(batch.buffers, batch.start);
      this.#head.datasync();
      this.#position = batch.position;
    } catch (error) {
      try {
        this.truncate(batch.start);
      } catch (second) {
        this.failure = second;
      }
      throw error;
    }
  }

  /** Cuts the head off there, durably. */
  truncate(position: number): void {
    this.#head.truncate(position);
    this.#head.datasync();
    this.#position = position;
  }

  /** Removes the oldest segment. */
  removeOldest(): void {
    const number = this.#segments[0] as number;
    const bytes = this.#sizeOf(number);
    try {
      this.#files.unlinkSync(this.#paths.segment(number));
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
    this.#segments.shift();
    this.#closedBytes -= bytes;
    this.#files.syncDirectorySync(this.#paths.journal);
  }

  #sizeOf(segment: number): number {
    const file = this.#files.openSync(this.#paths.segment(segment), "read");
    try {
      return file.size();
    } finally {
      file.close();
    }
  }

  /** Records of a segment and damage between them, in order. */
  *scan(segment: number, from = 0): Generator<ScannedRecord | ScannedDamage> {
    const path = this.#paths.segment(segment);
    const file = this.#files.openSync(path, "read");
    try {
      yield* scanSegment(file, path, from);
    } finally {
      file.close();
    }
  }

  close(): void {
    this.#head.close();
  }
}
