import type { KeyObject } from "node:crypto";
import { crc32 } from "node:zlib";
import { openBytes, sealBytes, tagBytes, type VolumeKey } from "../keys.ts";
import { blockBytes, type Compression } from "../types.ts";
import type { ChunkName } from "./names.ts";

/** Chunks as FORMAT.md has them: a header, padded to whole blocks, then frames. */

const magic = 0x43564b53; // "SKVC"
const version = 1;
const flagCompressed = 1;
const flagEncrypted = 2;
const fixedBytes = 64;
const extentBytes = 8;
const frameBytes = 8;
const compressedBit = 0x80000000;
const volumeBytes = 24;
/** Blocks of a frame where a chunk is compressed or encrypted. */
const blocksOfFrame = 16;
/** Bytes that are worked through between two pauses. */
const sliceBytes = 512 * 1024;

export interface ChunkExtent {
  block: number;
  count: number;
}

export interface ChunkFrame {
  /** Of the stored bytes, from the chunk's beginning. */
  position: number;
  storedBytes: number;
  crc: number;
  compressed: boolean;
  /** Of its first block. */
  ordinal: number;
  blocks: number;
}

export interface ChunkHeader {
  name: ChunkName;
  encrypted: boolean;
  headerBytes: number;
  sizeBytes: number;
  blocks: number;
  frameBlocks: number;
  frames: number;
  extents(): ChunkExtent[];
  /** The frame that holds a block. */
  frameOf(ordinal: number): ChunkFrame;
}

/** Bytes that are not a chunk, or not the one that was asked for. `why` completes "chunk …: ". */
export class ChunkDamaged extends Error {
  override name = "ChunkDamaged";
  readonly why: string;

  constructor(why: string, options?: ErrorOptions) {
    super(why, options);
    this.why = why;
  }
}

/** How many blocks a chunk may have so that all of it fits in `objBlockBytes`: 1,016 for 4 MiB. */
export function chunkBlocks(objBlockBytes: number): number {
  return Math.max(1, Math.floor((objBlockBytes * 127) / 128 / blockBytes));
}

export interface EncodeChunk {
  name: ChunkName;
  /** In the order of the blocks. */
  extents: readonly ChunkExtent[];
  /** Each a multiple of 4,096 bytes; all together the blocks in the order of ordinals. */
  blocks: readonly Uint8Array[];
  compression: Compression;
  key: VolumeKey | null;
  compress(bytes: Uint8Array): Uint8Array | Promise<Uint8Array>;
  /** Lets other work of the event loop run. */
  pause(): Promise<void>;
  /** Memory for the chunk. */
  lend?: (lengthBytes: number) => Buffer;
}

/** The bytes of a chunk for the store. */
export async function encodeChunk(
  chunk: EncodeChunk,
): Promise<{ body: Uint8Array; headerBytes: number; blocks: number }> {
  const { name, extents, key, compression } = chunk;
  const isPlain = compression === "none" && key === null;
  const frameBlocks = isPlain ? 1 : blocksOfFrame;
  const blocks = chunk.blocks.reduce((sum, bytes) => sum + bytes.length, 0) / blockBytes;
  const count = Math.ceil(blocks / frameBlocks);
  const headerBytes = headerSize(extents.length, count);
  const tags = key === null ? 0 : count * tagBytes;
  const bodyBytes = headerBytes + blocks * blockBytes + tags;
  const body = chunk.lend?.(bodyBytes) ?? Buffer.allocUnsafeSlow(bodyBytes);
  body.fill(0, 0, headerBytes);
  const frames = fixedBytes + extents.length * extentBytes;
  const secret = key?.chunkKey(name);
  let position = headerBytes;
  let since = 0;
  let frame = 0;
  for (const plain of framesOf(chunk.blocks, frameBlocks * blockBytes)) {
    let stored = plain;
    let packed = 0;
    if (compression === "zstd") {
      const smaller = await chunk.compress(plain);
      if (smaller.length < plain.length - plain.length / 8) {
        stored = smaller;
        packed = compressedBit;
      }
    }
    if (secret !== undefined) stored = sealBytes(secret, frame, stored);
    body.set(stored, position);
    position += stored.length;
    body.writeUInt32LE((stored.length | packed) >>> 0, frames + frame * frameBytes);
    body.writeUInt32LE(crc32(stored), frames + frame * frameBytes + 4);
    frame += 1;
    since += plain.length;
    if (since >= sliceBytes) {
      since = 0;
      await chunk.pause();
    }
  }
  body.writeUInt32LE(magic, 0);
  body.writeUInt16LE(version, 4);
  body.writeUInt16LE((compression === "zstd" ? flagCompressed : 0) | (key === null ? 0 : flagEncrypted), 6);
  [headerBytes, blocks, frameBlocks, extents.length, count, name.epoch, name.number].forEach((value, i) => {
    body.writeUInt32LE(value, 8 + i * 4);
  });
  body.write(name.volume, 40, volumeBytes, "latin1");
  extents.forEach((extent, i) => {
    body.writeUInt32LE(extent.block, fixedBytes + i * extentBytes);
    body.writeUInt32LE(extent.count, fixedBytes + i * extentBytes + 4);
  });
  body.writeUInt32LE(headerCrc(body.subarray(0, headerBytes)), 36);
  return { body: body.subarray(0, position), headerBytes, blocks };
}

function headerSize(extents: number, frames: number): number {
  const bytes = fixedBytes + extents * extentBytes + frames * frameBytes;
  return Math.ceil(bytes / blockBytes) * blockBytes;
}

/** The pieces cut anew into frames; without a copy where one piece holds a whole frame. */
function* framesOf(pieces: readonly Uint8Array[], bytes: number): Generator<Uint8Array> {
  let held: Uint8Array[] = [];
  let length = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; ) {
      const part = piece.subarray(at, Math.min(piece.length, at + bytes - length));
      held.push(part);
      length += part.length;
      at += part.length;
      if (length < bytes) continue;
      yield held.length === 1 ? (held[0] as Uint8Array) : Buffer.concat(held);
      held = [];
      length = 0;
    }
  }
  if (length > 0) yield Buffer.concat(held);
}

/** With its own field as 0. */
function headerCrc(header: Uint8Array): number {
  return crc32(header.subarray(40), crc32(new Uint8Array(4), crc32(header.subarray(0, 36))));
}

/** The first bytes of a chunk: how long its header is. ChunkDamaged where they are none. */
function headerBytesOf(start: Uint8Array): number {
  const bytes = Buffer.from(start.buffer, start.byteOffset, start.byteLength);
  if (bytes.length < fixedBytes) throw new ChunkDamaged(`it has ${bytes.length} bytes of its header`);
  if (bytes.readUInt32LE(0) !== magic) throw new ChunkDamaged("it is not a chunk");
  if (bytes.readUInt16LE(4) !== version) {
    throw new ChunkDamaged(`it has version ${bytes.readUInt16LE(4)}; this skep knows ${version}`);
  }
  const headerBytes = bytes.readUInt32LE(8);
  if (headerBytes !== headerSize(bytes.readUInt32LE(20), bytes.readUInt32LE(24))) {
    throw new ChunkDamaged("its header contradicts itself");
  }
  return headerBytes;
}

/** The header of the chunk with that name and size. ChunkDamaged. */
export function decodeHeader(
  start: Uint8Array,
  expected: { name: ChunkName; sizeBytes: number },
): ChunkHeader {
  const headerBytes = headerBytesOf(start);
  if (headerBytes > start.length) throw new ChunkDamaged("its header is cut off");
  const bytes = Buffer.from(start.buffer, start.byteOffset, headerBytes);
  if (headerCrc(bytes) !== bytes.readUInt32LE(36)) throw new ChunkDamaged("its header's checksum is wrong");
  const [blocks, frameBlocks, extents, frames, epoch, number] = [12, 16, 20, 24, 28, 32].map((at) =>
    bytes.readUInt32LE(at),
  ) as [number, number, number, number, number, number];
  const { name, sizeBytes } = expected;
  const volume = bytes.toString("latin1", 40, 40 + volumeBytes).replace(/\0+$/, "");
  if (volume !== name.volume || epoch !== name.epoch || number !== name.number) {
    throw new ChunkDamaged("it is another chunk");
  }
  const encrypted = (bytes.readUInt16LE(6) & flagEncrypted) !== 0;
  if (frameBlocks === 0 || frameBlocks > 1024 || blocks === 0 || Math.ceil(blocks / frameBlocks) !== frames) {
    throw new ChunkDamaged("its header contradicts itself");
  }
  const table = fixedBytes + extents * extentBytes;
  const positions = new Float64Array(frames + 1);
  positions[0] = headerBytes;
  for (let i = 0; i < frames; i += 1) {
    const stored = bytes.readUInt32LE(table + i * frameBytes);
    const length = (stored & ~compressedBit) >>> 0;
    const whole = Math.min(frameBlocks, blocks - i * frameBlocks) * blockBytes + (encrypted ? tagBytes : 0);
    const isPacked = (stored & compressedBit) !== 0;
    if (isPacked ? length >= whole : length !== whole)
      throw new ChunkDamaged(`frame ${i} cannot have ${length} bytes`);
    positions[i + 1] = (positions[i] as number) + length;
  }
  if (positions[frames] !== sizeBytes) {
    throw new ChunkDamaged(`it has ${sizeBytes} bytes, and its header says ${positions[frames]}`);
  }
  return {
    name,
    encrypted,
    headerBytes,
    sizeBytes,
    blocks,
    frameBlocks,
    frames,
    extents: () =>
      Array.from({ length: extents }, (_, i) => ({
        block: bytes.readUInt32LE(fixedBytes + i * extentBytes),
        count: bytes.readUInt32LE(fixedBytes + i * extentBytes + 4),
      })),
    frameOf(ordinal) {
      const i = Math.floor(ordinal / frameBlocks);
      if (!(i >= 0 && i < frames)) throw new ChunkDamaged(`it has no block ${ordinal}`);
      const position = positions[i] as number;
      return {
        position,
        storedBytes: (positions[i + 1] as number) - position,
        crc: bytes.readUInt32LE(table + i * frameBytes + 4),
        compressed: bytes.readUInt32LE(table + i * frameBytes) >= compressedBit,
        ordinal: i * frameBlocks,
        blocks: Math.min(frameBlocks, blocks - i * frameBlocks),
      };
    },
  };
}

/** Whether the stored bytes are those that were written. */
export function isWhole(frame: ChunkFrame, stored: Uint8Array): boolean {
  return stored.length === frame.storedBytes && crc32(stored) === frame.crc;
}

/** A frame's blocks. `secret`: the chunk's own key, where it is encrypted. ChunkDamaged. */
export function decodeFrame(
  frame: ChunkFrame,
  stored: Uint8Array,
  frameNumber: number,
  secret: KeyObject | undefined,
  decompress: (bytes: Uint8Array, maxBytes: number) => Uint8Array,
): Uint8Array {
  const where = `blocks ${frame.ordinal} to ${frame.ordinal + frame.blocks - 1}`;
  if (!isWhole(frame, stored)) throw new ChunkDamaged(`${where} have a wrong checksum`);
  let bytes = stored;
  if (secret !== undefined) {
    const opened = openBytes(secret, frameNumber, stored);
    if (opened === undefined) throw new ChunkDamaged(`${where} do not open with the volume's key`);
    bytes = opened;
  }
  const length = frame.blocks * blockBytes;
  if (frame.compressed) {
    try {
      bytes = decompress(bytes, length);
    } catch (error) {
      throw new ChunkDamaged(`${where} cannot be decompressed`, { cause: error });
    }
  }
  if (bytes.length !== length) throw new ChunkDamaged(`${where} are ${bytes.length} bytes long`);
  return bytes;
}
