import { crc32 } from "node:zlib";

/**
 * One record of the journal, numbers little-endian:
 *
 * | bytes | what |
 * |---|---|
 * | 8 | the segment's mark |
 * | 4 | CRC-32 of the 28 bytes after it and of the JSON |
 * | 4 | length of the JSON |
 * | 4 | length of the inline bytes |
 * | 8 | sequence number |
 * | 8 | where in the segment the batch begins that the record was written with |
 * | 4 | CRC-32 of the inline bytes |
 * | … | JSON: the list of mutations |
 * | … | inline bytes: the body of a small object |
 *
 * A batch is on stable storage before the next one is written. So a record that cannot be read was torn
 * by a crash if no later batch follows it, and is damaged if one does. The mark is random: a body that
 * was made to look like a record is never taken for one when the next whole record is searched for.
 */
export const headerBytes = 40;
export const markBytes = 8;
/** Far above any record: the numbers of 10,000 parts, or an inline body. */
export const maximumRecordBytes = 16 * 1024 * 1024;

export interface RecordHeader {
  crc: number;
  jsonBytes: number;
  inlineBytes: number;
  sequence: number;
  batchStart: number;
  inlineCrc: number;
}

export interface NewRecord {
  sequence: number;
  batchStart: number;
  json: string;
  inline?: Uint8Array;
  inlineCrc: number;
}

/** Header and JSON in one buffer; the inline bytes follow it in the file. */
export function encodeRecord(mark: Uint8Array, record: NewRecord): Buffer {
  const jsonBytes = Buffer.byteLength(record.json);
  const buffer = Buffer.allocUnsafe(headerBytes + jsonBytes);
  buffer.set(mark, 0);
  buffer.writeUInt32LE(jsonBytes, 12);
  buffer.writeUInt32LE(record.inline?.length ?? 0, 16);
  writeUInt64(buffer, record.sequence, 20);
  writeUInt64(buffer, record.batchStart, 28);
  buffer.writeUInt32LE(record.inlineCrc, 36);
  buffer.write(record.json, headerBytes);
  buffer.writeUInt32LE(crc32(buffer.subarray(12)), 8);
  return buffer;
}

/** What the header says, or undefined where it cannot be one. Its CRC is not checked yet. */
export function decodeHeader(mark: Uint8Array, buffer: Buffer): RecordHeader | undefined {
  if (buffer.length < headerBytes || buffer.compare(mark, 0, markBytes, 0, markBytes) !== 0) return undefined;
  const header = {
    crc: buffer.readUInt32LE(8),
    jsonBytes: buffer.readUInt32LE(12),
    inlineBytes: buffer.readUInt32LE(16),
    sequence: Number(buffer.readBigUInt64LE(20)),
    batchStart: Number(buffer.readBigUInt64LE(28)),
    inlineCrc: buffer.readUInt32LE(36),
  };
  return recordBytes(header) > maximumRecordBytes ? undefined : header;
}

export function recordBytes(header: RecordHeader): number {
  return headerBytes + header.jsonBytes + header.inlineBytes;
}

/** Whether header and JSON, of a buffer that begins with the record, are those that were written. */
export function isWhole(buffer: Buffer, header: RecordHeader): boolean {
  const end = headerBytes + header.jsonBytes;
  return end <= buffer.length && crc32(buffer.subarray(12, end)) === header.crc;
}

function writeUInt64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value >>> 0, offset);
  buffer.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}
