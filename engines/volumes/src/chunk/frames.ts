import type { KeyObject } from "node:crypto";
import { blockBytes } from "../types.ts";
import { ChunkDamaged, type ChunkHeader, decodeFrame, isWhole } from "./format.ts";

/** Blocks of a chunk, and the bytes of the frames that hold them. */
export interface FrameRange {
  ordinal: number;
  count: number;
  start: number;
  end: number;
}

/** ChunkDamaged where the chunk has no such blocks. */
export function rangeOf(header: ChunkHeader, ordinal: number, count: number): FrameRange {
  const last = header.frameOf(ordinal + count - 1);
  const { position } = header.frameOf(ordinal);
  return { ordinal, count, start: position, end: last.position + last.storedBytes };
}

/** The first and last bytes of frames that are not as they were written; undefined where all are. */
export function damageIn(
  header: ChunkHeader,
  range: FrameRange,
  bytes: Uint8Array,
): { start: number; end: number } | undefined {
  let start: number | undefined;
  let end = 0;
  for (let at = range.ordinal; at < range.ordinal + range.count; ) {
    const frame = header.frameOf(at);
    const from = frame.position - range.start;
    if (!isWhole(frame, bytes.subarray(from, from + frame.storedBytes))) {
      start ??= frame.position;
      end = frame.position + frame.storedBytes;
    }
    at = frame.ordinal + frame.blocks;
  }
  return start === undefined ? undefined : { start, end };
}

/** The blocks of a range whose bytes are whole: of a plain chunk these bytes themselves. ChunkDamaged. */
export function blocksIn(
  header: ChunkHeader,
  range: FrameRange,
  bytes: Uint8Array,
  open: { secret: KeyObject | undefined; decompress(bytes: Uint8Array, maxBytes: number): Uint8Array },
): Uint8Array[] {
  const { ordinal, count } = range;
  if (header.frameBlocks === 1 && !header.encrypted && bytes.length === count * blockBytes) return [bytes];
  const pieces: Uint8Array[] = [];
  const end = ordinal + count;
  for (let at = ordinal; at < end; ) {
    const frame = header.frameOf(at);
    const from = frame.position - range.start;
    const stored = bytes.subarray(from, from + frame.storedBytes);
    const number = frame.ordinal / header.frameBlocks;
    const blocks = decodeFrame(frame, stored, number, open.secret, open.decompress);
    const until = Math.min(end, frame.ordinal + frame.blocks);
    pieces.push(blocks.subarray((at - frame.ordinal) * blockBytes, (until - frame.ordinal) * blockBytes));
    at = until;
  }
  return pieces;
}

/** Each frame by itself, so that one's damage does not hide the others'. */
export function damagedBlocks(
  header: ChunkHeader,
  bytes: Uint8Array,
  open: Parameters<typeof blocksIn>[3],
): { ordinal: number; count: number; why: string }[] {
  const damaged: { ordinal: number; count: number; why: string }[] = [];
  for (let ordinal = 0; ordinal < header.blocks; ) {
    const frame = header.frameOf(ordinal);
    const range = rangeOf(header, ordinal, frame.blocks);
    try {
      const stored = bytes.subarray(range.start, range.end);
      if (!isWhole(frame, stored)) throw new ChunkDamaged("the checksum is wrong");
      blocksIn(header, range, stored, open);
    } catch (error) {
      if (!(error instanceof ChunkDamaged)) throw error;
      damaged.push({ ordinal, count: frame.blocks, why: error.why });
    }
    ordinal += frame.blocks;
  }
  return damaged;
}
