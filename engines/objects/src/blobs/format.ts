import { crc32 } from "node:zlib";

/**
 * A blob is a file of its own: the bytes of an object or of a part, then the CRC-32 of each block of
 * 256 KiB (4 bytes each, the last block may be short), then a trailer. All numbers are little-endian.
 *
 * | bytes | trailer |
 * |---|---|
 * | 8 | "SKEPBLOB" |
 * | 4 | version of the format |
 * | 4 | length of a block |
 * | 8 | length of the object |
 * | 4 | CRC-32 of the table |
 * | 4 | CRC-32 of the 28 bytes before |
 */
export const blockBytes = 256 * 1024;
export const trailerBytes = 32;
export const blobVersion = 1;
const magic = "SKEPBLOB";

export interface BlobTrailer {
  version: number;
  blockBytes: number;
  sizeBytes: number;
  tableCrc: number;
}

/** Table and trailer. */
export function encodeFooter(checksums: readonly number[], sizeBytes: number): Buffer {
  const tableBytes = checksums.length * 4;
  const buffer = Buffer.alloc(tableBytes + trailerBytes);
  for (let i = 0; i < checksums.length; i += 1) buffer.writeUInt32LE(checksums[i] as number, i * 4);
  const trailer = buffer.subarray(tableBytes);
  trailer.write(magic, 0, "latin1");
  trailer.writeUInt32LE(blobVersion, 8);
  trailer.writeUInt32LE(blockBytes, 12);
  trailer.writeBigUInt64LE(BigInt(sizeBytes), 16);
  trailer.writeUInt32LE(crc32(buffer.subarray(0, tableBytes)), 24);
  trailer.writeUInt32LE(crc32(trailer.subarray(0, 28)), 28);
  return buffer;
}

/** Undefined where it is no whole trailer. */
export function decodeTrailer(buffer: Buffer): BlobTrailer | undefined {
  if (buffer.length !== trailerBytes || buffer.toString("latin1", 0, 8) !== magic) return undefined;
  if (buffer.readUInt32LE(28) !== crc32(buffer.subarray(0, 28))) return undefined;
  return {
    version: buffer.readUInt32LE(8),
    blockBytes: buffer.readUInt32LE(12),
    sizeBytes: Number(buffer.readBigUInt64LE(16)),
    tableCrc: buffer.readUInt32LE(24),
  };
}

export function blockCount(sizeBytes: number): number {
  return Math.ceil(sizeBytes / blockBytes);
}
