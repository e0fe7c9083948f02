import { crc32 } from "node:zlib";
import type { AsyncFile, Files } from "@skep/objects/files";
import { fail } from "../errors.ts";
import { parseSlot, type SlotContext, slotData } from "./slot.ts";

/** Segments: their header, and reading one from its beginning to its last whole slot. */

export const headerBytes = 64;
const magic = "SKVW";
const version = 1;
const encryptedFlag = 2;
const pieceBytes = 1024 * 1024;

export interface SegmentHeader {
  number: number;
  epoch: number;
  salt: bigint;
  /** `vol-…` */
  volume: string;
  word: bigint;
  encrypted: boolean;
}

export function segmentName(number: number): string {
  return `${number.toString(16).padStart(8, "0")}.wal`;
}

/** Of the files in the directory, those that are segments. */
export function segmentNumbers(names: readonly string[]): number[] {
  return names
    .filter((name) => /^[0-9a-f]{8}\.wal$/.test(name))
    .map((name) => Number.parseInt(name, 16))
    .sort((one, other) => one - other);
}

export function encodeHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt16LE(version, 4);
  bytes.writeUInt16LE(header.encrypted ? encryptedFlag : 0, 6);
  bytes.writeUInt32LE(header.number, 8);
  bytes.writeUInt32LE(header.epoch, 12);
  bytes.writeBigUInt64LE(header.salt, 16);
  bytes.write(header.volume, 24, 24, "latin1");
  bytes.writeBigUInt64LE(header.word, 48);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, 60)), 60);
  return bytes;
}

/** Undefined where it is torn: then nothing behind it was ever synced, nor acknowledged. */
export function decodeHeader(bytes: Buffer, path: string): SegmentHeader | undefined {
  if (bytes.length < headerBytes || bytes.toString("latin1", 0, 4) !== magic) return undefined;
  if (crc32(bytes.subarray(0, 60)) !== bytes.readUInt32LE(60)) return undefined;
  const volume = bytes.toString("latin1", 24, 48).replace(/\0+$/, "");
  const found = bytes.readUInt16LE(4);
  const flags = bytes.readUInt16LE(6);
  if (found !== version || (flags & ~encryptedFlag) !== 0) {
    throw fail("VOLUME_DAMAGED", {
      id: volume,
      object: path,
      why: `it is a segment of version ${found} with flags ${flags}; this skep knows version ${version}`,
    });
  }
  return {
    number: bytes.readUInt32LE(8),
    epoch: bytes.readUInt32LE(12),
    salt: bytes.readBigUInt64LE(16),
    volume,
    word: bytes.readBigUInt64LE(48),
    encrypted: flags === encryptedFlag,
  };
}

export async function readHeader(file: AsyncFile, path: string): Promise<SegmentHeader | undefined> {
  const bytes = Buffer.alloc(headerBytes);
  const count = await file.read(bytes, 0);
  return decodeHeader(bytes.subarray(0, count), path);
}

/** A run of consecutive blocks whose slots follow one another. */
export interface ReplayEntry {
  block: number;
  count: number;
  segment: number;
  position: number;
  zeroes: boolean;
}

export interface Scanned {
  /** Where the last whole slot ends. */
  wholeBytes: number;
  slots: number;
  /** Of the last slot; 0: there is none. */
  sequence: bigint;
}

/** Reads a segment slot by slot, up to the last whole one, in pieces of bounded size. */
export async function scanSegment(
  file: AsyncFile,
  number: number,
  context: SlotContext,
  each?: (entry: ReplayEntry) => void,
): Promise<Scanned> {
  const buffer = Buffer.allocUnsafeSlow(pieceBytes);
  const scanned: Scanned = { wholeBytes: headerBytes, slots: 0, sequence: 0n };
  let run: ReplayEntry | undefined;
  const flush = () => {
    if (run !== undefined) each?.(run);
    run = undefined;
  };
  for (;;) {
    const start = scanned.wholeBytes;
    const piece = buffer.subarray(0, await file.read(buffer, start));
    let at = 0;
    for (;;) {
      const slot = parseSlot(context, piece, at);
      if (slot === undefined) break;
      if (scanned.slots > 0 && slot.sequence !== scanned.sequence + 1n) break;
      const position = start + at;
      // A block is checked with the key when it is read; zeroes never are, so they are now.
      if (slot.zeroes && slotData(context, piece, at, position, slot.bytes) === undefined) break;
      if (run !== undefined && !run.zeroes && !slot.zeroes && run.block + run.count === slot.block) {
        run.count += 1;
      } else {
        flush();
        run = { block: slot.block, count: slot.count, segment: number, position, zeroes: slot.zeroes };
      }
      at += slot.bytes;
      scanned.slots += 1;
      scanned.sequence = slot.sequence;
    }
    scanned.wholeBytes = start + at;
    if (at === 0 || piece.length < buffer.length) break;
  }
  flush();
  return scanned;
}

/** An open segment. Its file is closed when it is removed and nobody reads it any more. */
export class Segment {
  readonly number: number;
  readonly path: string;
  readonly file: AsyncFile;
  readonly context: SlotContext;
  /** Where the next slot goes; after a replay, all that the file has. */
  bytes: number;
  #users = 1;

  constructor(given: { number: number; path: string; file: AsyncFile; context: SlotContext; bytes: number }) {
    this.number = given.number;
    this.path = given.path;
    this.file = given.file;
    this.context = given.context;
    this.bytes = given.bytes;
  }

  async use<T>(work: () => Promise<T>): Promise<T> {
    this.#users += 1;
    try {
      return await work();
    } finally {
      await this.release();
    }
  }

  async release(): Promise<void> {
    this.#users -= 1;
    if (this.#users === 0) await this.file.close();
  }
}

export async function removeFile(files: Files, path: string): Promise<void> {
  try {
    await files.unlink(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
}
