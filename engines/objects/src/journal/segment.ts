import { crc32 } from "node:zlib";
import { baseErrors, errorsOf } from "@skep/base";
import { fail } from "../errors.ts";
import type { SyncFile } from "../files.ts";
import {
  decodeHeader,
  headerBytes,
  isWhole,
  markBytes,
  maximumRecordBytes,
  type RecordHeader,
  recordBytes,
} from "./record.ts";

/**
 * A segment of the journal is a header and records. The header, numbers little-endian: "SKEPJRNL", the
 * format's version (4 bytes), the segment's number (4), its mark (8 random bytes), the CRC-32 of all
 * that (4), 4 bytes of zero.
 */
export const segmentHeaderBytes = 32;
const magic = "SKEPJRNL";
const version = 1;
const failBase = errorsOf(baseErrors);

export function encodeSegmentHeader(number: number, mark: Uint8Array): Buffer {
  const buffer = Buffer.alloc(segmentHeaderBytes);
  buffer.write(magic, 0, "latin1");
  buffer.writeUInt32LE(version, 8);
  buffer.writeUInt32LE(number, 12);
  buffer.set(mark, 16);
  buffer.writeUInt32LE(crc32(buffer.subarray(0, 24)), 24);
  return buffer;
}

/** The segment's mark; undefined where the header is not whole. FILE_VERSION. */
export function readSegmentHeader(file: SyncFile, path: string): Buffer | undefined {
  const buffer = Buffer.alloc(segmentHeaderBytes);
  if (file.read(buffer, 0) < segmentHeaderBytes) return undefined;
  if (buffer.toString("latin1", 0, 8) !== magic) return undefined;
  if (buffer.readUInt32LE(24) !== crc32(buffer.subarray(0, 24))) return undefined;
  const found = buffer.readUInt32LE(8);
  if (found !== version) throw failBase("FILE_VERSION", { path, version: found, supported: version });
  return buffer.subarray(16, 16 + markBytes);
}

export interface ScannedRecord {
  kind: "record";
  position: number;
  header: RecordHeader;
  json: string;
  inline: Buffer;
  /** False: mutations are whole, the body after them is not. */
  inlineWhole: boolean;
}

/** Bytes that are no record. */
export interface ScannedDamage {
  kind: "damage";
  position: number;
  /** Where the next whole record begins, or the file ends. */
  end: number;
  /** They were on stable storage once; else a crash tore them, and no one was told of them. */
  durable: boolean;
}

/** Reads a segment from `from` on, holding no more than a few records at a time. */
export function* scanSegment(
  file: SyncFile,
  path: string,
  from: number,
): Generator<ScannedRecord | ScannedDamage> {
  const mark = readSegmentHeader(file, path);
  if (mark === undefined) throw fail("STORE_DAMAGED", { path, why: "a journal segment has no header" });
  const size = file.size();
  const window = new Window(file, size);
  let position = Math.max(from, segmentHeaderBytes);
  while (position < size) {
    const record = readRecord(window, mark, position);
    if (record !== undefined && (record.inlineWhole || isDurable(window, mark, position, size))) {
      yield record;
      position += recordBytes(record.header);
      continue;
    }
    const damage = measureDamage(window, mark, position, size);
    yield damage;
    position = damage.end;
  }
}

function readRecord(window: Window, mark: Uint8Array, position: number): ScannedRecord | undefined {
  const header = decodeHeader(mark, window.bytes(position, headerBytes));
  if (header === undefined) return undefined;
  const bytes = window.bytes(position, recordBytes(header));
  if (!isWhole(bytes, header)) return undefined;
  const bodyAt = headerBytes + header.jsonBytes;
  const inline = bytes.subarray(bodyAt);
  return {
    kind: "record",
    position,
    header,
    json: bytes.toString("utf8", headerBytes, bodyAt),
    inline,
    inlineWhole: inline.length === header.inlineBytes && crc32(inline) === header.inlineCrc,
  };
}

/** Whether a later batch was written after the bytes at `position`. */
function isDurable(window: Window, mark: Uint8Array, position: number, size: number): boolean {
  for (let at = position + 1; ; at += 1) {
    at = window.find(mark, at, size);
    if (at === -1) return false;
    const header = decodeHeader(mark, window.bytes(at, headerBytes));
    if (header === undefined || header.batchStart <= position) continue;
    if (isWhole(window.bytes(at, headerBytes + header.jsonBytes), header)) return true;
  }
}

function measureDamage(window: Window, mark: Uint8Array, position: number, size: number): ScannedDamage {
  const durable = isDurable(window, mark, position, size);
  let end = durable ? window.find(mark, position + 1, size) : size;
  while (end !== -1 && end < size && readRecord(window, mark, end) === undefined) {
    end = window.find(mark, end + 1, size);
  }
  return { kind: "damage", position, end: end === -1 ? size : end, durable };
}

/** A file read through a buffer of a few MiB. */
class Window {
  readonly #file: SyncFile;
  readonly #size: number;
  #buffer: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: SyncFile, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /** Fewer only at the end of the file. Valid until the next call. */
  bytes(position: number, length: number): Buffer {
    const end = Math.min(position + length, this.#size);
    if (position < this.#start || end > this.#start + this.#buffer.length) {
      const buffer = Buffer.allocUnsafe(Math.min(Math.max(length, 1024 * 1024), this.#size - position));
      this.#buffer = buffer.subarray(0, this.#file.read(buffer, position));
      this.#start = position;
    }
    return this.#buffer.subarray(position - this.#start, Math.max(position, end) - this.#start);
  }

  /** Where `wanted` is next; -1 where nowhere. */
  find(wanted: Uint8Array, from: number, size: number): number {
    let position = from;
    while (position < size) {
      const bytes = this.bytes(position, Math.min(maximumRecordBytes, 1024 * 1024));
      const at = bytes.indexOf(wanted);
      if (at !== -1) return position + at;
      if (position + bytes.length >= size) return -1;
      position += Math.max(1, bytes.length - wanted.length + 1);
    }
    return -1;
  }
}
