import { chunkBytes, type MemoryIndex, type MemoryRow } from "./types.ts";

/** The bytes of `memory.idx`, as FORMAT.md has them; numbers are little-endian. */
export const headerBytes = 40;
const rowBytes = 48;
const magic = Buffer.from("SKEPMIDX", "latin1");
const version = 1;

/** Of one machine: 1 TiB, whose index has 48 MiB. */
export const largestMemory = 2 ** 40;
/** Memory is made of pages of this size. */
export const pageBytes = 4096;

/** Says in words for people why a memory index is none. */
export class IndexError extends Error {}

export function indexBytes(chunks: number): number {
  return headerBytes + rowBytes * chunks;
}

/** How many bytes of memory a chunk has: `chunkBytes`, or fewer for the last. */
export function bytesOfChunk(chunk: number, memoryBytes: number): number {
  return Math.min(chunkBytes, memoryBytes - chunk * chunkBytes);
}

export function isMemorySize(bytes: number): boolean {
  return Number.isSafeInteger(bytes) && bytes > 0 && bytes <= largestMemory && bytes % pageBytes === 0;
}

export function encodeIndex({ memoryBytes, packBytes, rows }: MemoryIndex): Buffer {
  const bytes = Buffer.alloc(indexBytes(rows.length));
  magic.copy(bytes);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(chunkBytes, 12);
  bytes.writeBigUInt64LE(BigInt(memoryBytes), 16);
  bytes.writeBigUInt64LE(BigInt(packBytes), 24);
  bytes.writeUInt32LE(rows.length, 32);
  let at = headerBytes;
  for (const { chunk, length, offset, sha256 } of rows) {
    bytes.writeUInt32LE(chunk, at);
    bytes.writeUInt32LE(length, at + 4);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.set(sha256, at + 16);
    at += rowBytes;
  }
  return bytes;
}

/** Believes nothing: every number is held against the others. IndexError. */
export function decodeIndex(bytes: Buffer): MemoryIndex {
  if (bytes.length < headerBytes) throw new IndexError(`has ${bytes.length} bytes, fewer than its header`);
  if (!bytes.subarray(0, 8).equals(magic)) throw new IndexError("is no memory index");
  const itsVersion = bytes.readUInt32LE(8);
  if (itsVersion !== version) throw new IndexError(`has version ${itsVersion}, not ${version}`);
  const itsChunks = bytes.readUInt32LE(12);
  if (itsChunks !== chunkBytes) throw new IndexError(`has chunks of ${itsChunks} bytes, not ${chunkBytes}`);
  const memoryBytes = Number(bytes.readBigUInt64LE(16));
  if (!isMemorySize(memoryBytes)) throw new IndexError(`is of a memory of ${memoryBytes} bytes`);
  const packBytes = Number(bytes.readBigUInt64LE(24));
  const count = bytes.readUInt32LE(32);
  if (bytes.readUInt32LE(36) !== 0) throw new IndexError("has something in its reserved bytes");
  if (bytes.length !== indexBytes(count)) {
    throw new IndexError(`has ${bytes.length} bytes, but ${count} rows take ${indexBytes(count)}`);
  }
  const rows: MemoryRow[] = [];
  let end = 0;
  let previous = -1;
  for (let index = 0; index < count; index += 1) {
    const row = decodeRow(bytes, headerBytes + index * rowBytes);
    checkRow(row, { previous, end, memoryBytes });
    rows.push(row);
    previous = row.chunk;
    end += row.length;
  }
  if (end !== packBytes) throw new IndexError(`tells of ${end} bytes in a pack of ${packBytes}`);
  return { memoryBytes, packBytes, rows };
}

function decodeRow(bytes: Buffer, at: number): MemoryRow {
  return {
    chunk: bytes.readUInt32LE(at),
    length: bytes.readUInt32LE(at + 4),
    offset: Number(bytes.readBigUInt64LE(at + 8)),
    // A copy: a view sent to a thread would take the whole index along.
    sha256: new Uint8Array(bytes.subarray(at + 16, at + rowBytes)),
  };
}

function checkRow(
  { chunk, length, offset }: MemoryRow,
  before: { previous: number; end: number; memoryBytes: number },
): void {
  if (chunk <= before.previous) throw new IndexError(`has chunk ${chunk} after chunk ${before.previous}`);
  const raw = bytesOfChunk(chunk, before.memoryBytes);
  if (raw <= 0) throw new IndexError(`has chunk ${chunk}, beyond the end of memory`);
  if (length === 0 || length > raw)
    throw new IndexError(`stores chunk ${chunk} of ${raw} bytes in ${length}`);
  if (offset !== before.end) {
    throw new IndexError(`has chunk ${chunk} at byte ${offset} of the pack, not at ${before.end}`);
  }
}
