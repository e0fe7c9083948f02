import { join } from "node:path";
import { crc32 } from "node:zlib";
import type { AsyncFile, Files } from "@skep/objects/files";
import { fail } from "../errors.ts";
import type { WalOptions } from "./options.ts";
import { type SlotContext, slotContext } from "./slot.ts";

/** Segments: their names, headers and files. */

export const headerBytes = 80;
const magic = "SKVW";
const version = 1;
const encryptedFlag = 2;
const checkAt = 76;
const maxNumber = 2 ** 32 - 1;

export interface SegmentHeader {
  number: number;
  epoch: number;
  salt: bigint;
  /** `vol-…` */
  volume: string;
  word: bigint;
  encrypted: boolean;
  /** Of slots with higher numbers none is missing that was synced. */
  since: bigint;
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

function encodeHeader(header: SegmentHeader): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.write(magic, 0, "latin1");
  bytes.writeUInt16LE(version, 4);
  bytes.writeUInt16LE(header.encrypted ? encryptedFlag : 0, 6);
  bytes.writeUInt32LE(header.number, 8);
  bytes.writeUInt32LE(header.epoch, 12);
  bytes.writeBigUInt64LE(header.salt, 16);
  bytes.write(header.volume, 24, 24, "latin1");
  bytes.writeBigUInt64LE(header.word, 48);
  bytes.writeBigUInt64LE(header.since, 56);
  bytes.writeUInt32LE(crc32(bytes.subarray(0, checkAt)), checkAt);
  return bytes;
}

/**
 * Undefined where it is torn, which a power loss may do before the first sync of a segment: without it nothing
 * behind it can be told from an earlier life of the disk, so nothing is.
 */
export function decodeHeader(bytes: Buffer, path: string): SegmentHeader | undefined {
  if (bytes.length < headerBytes || bytes.toString("latin1", 0, 4) !== magic) return undefined;
  if (crc32(bytes.subarray(0, checkAt)) !== bytes.readUInt32LE(checkAt)) return undefined;
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
    since: bytes.readBigUInt64LE(56),
    encrypted: flags === encryptedFlag,
  };
}

export async function readHeader(file: AsyncFile, path: string): Promise<SegmentHeader | undefined> {
  const bytes = Buffer.alloc(headerBytes);
  const count = await file.read(bytes, 0);
  return decodeHeader(bytes.subarray(0, count), path);
}

/** A new file with a header. VOLUME_DAMAGED where there are no numbers left. */
export async function createSegment(options: WalOptions, number: number, since: bigint): Promise<Segment> {
  const { files, directory, epoch, volume, word, key, random } = options;
  if (number > maxNumber) {
    throw fail("VOLUME_DAMAGED", { id: volume, object: directory, why: "its segments' numbers are used up" });
  }
  const path = join(directory, segmentName(number));
  const salt = Buffer.from(random(8)).readBigUInt64LE();
  const encrypted = key !== null;
  const context = slotContext(salt, number, key);
  const file = await files.open(path, "create");
  try {
    const header = encodeHeader({ number, epoch, salt, volume, word, encrypted, since });
    await file.write([header], 0);
  } catch (error) {
    await file.close();
    await removeFile(files, path);
    throw error;
  }
  return new Segment({ number, path, file, context, bytes: headerBytes });
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
