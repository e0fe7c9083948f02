import type { Core } from "./core.ts";
import { type Visit, zero } from "./map/extent-map.ts";

/** A run of blocks whose bytes are in the log, or in a chunk that is compacted. */
export interface Piece {
  block: number;
  count: number;
  /** A segment, or a chunk's slot. */
  source: number;
  /** In the segment, or the ordinal in the chunk. */
  position: number;
  isCompacted: boolean;
}

/** What the overlay holds at one instant: the volume's state then, with the durable map below it. */
export interface Capture {
  pieces: Piece[];
  /** block, count, …: ascending; what becomes a hole and is not one in the durable map. */
  holes: number[];
  /** block, count, …: all of the above, ascending. */
  covered: number[];
  /** The segments up to this one are not needed once the capture is in the store. */
  sealed: number;
  sequence: number;
  changes: number;
  blocks: number;
}

/** The overlay at one instant, with the end of the present segment; nothing changes by it. */
export interface Instant extends Pick<Capture, "sealed" | "sequence" | "changes"> {
  /** block, count, source, position, …: ascending. */
  runs: number[];
}

type End = Omit<Instant, "runs">;

function endOf({ wal, counters }: Core): End {
  const sealed = wal.seal();
  return { sealed, sequence: Number(wal.sealedSequence), changes: counters.changes };
}

/** A copy, in one turn: for an instant that is captured later. */
export function instantOf(core: Core): Instant {
  const runs: number[] = [];
  const end = endOf(core);
  core.overlay.forEach((block, count, source, position) => {
    runs.push(block, count, source, position);
  });
  return { runs, ...end };
}

function captureRuns({ map, ownership }: Core, end: End, forEach: (visit: Visit) => void): Capture {
  const all: Capture = { ...end, pieces: [], holes: [], covered: [], blocks: 0 };
  forEach((block, count, source, position) => {
    // Drains that were under way at the instant have put these segments into the map since.
    if ((source === zero ? position : source) < ownership.manifest.WALNum) return;
    all.covered.push(block, count);
    if (source !== zero) {
      all.pieces.push({ block, count, source, position, isCompacted: false });
      all.blocks += count;
    } else if (map.extents.firstMapped(block, count) < block + count) all.holes.push(block, count);
  });
  return all;
}

/** What the durable map, which stands at or before the instant, does not have of it. */
export function captureOf(core: Core, { runs, ...end }: Instant): Capture {
  const at = (i: number) => runs[i] as number;
  return captureRuns(core, end, (visit) => {
    for (let i = 0; i < runs.length; i += 4) visit(at(i), at(i + 1), at(i + 2), at(i + 3));
  });
}

/** The present instant, of which a drain takes care now. */
export function capture(core: Core): Capture {
  const all = captureRuns(core, endOf(core), (visit) => core.overlay.forEach(visit));
  noteCaptured(core);
  return all;
}

/** All that was changed so far is taken care of. */
export function noteCaptured({ counters }: Core): void {
  counters.captured = counters.changes;
  counters.waitingBytes = 0;
}

/** The parts of extents (block, count, slot, ordinal; ascending) that no captured run covers. */
export function uncovered(extents: readonly number[], covered: readonly number[]): Piece[] {
  const pieces: Piece[] = [];
  let at = 0;
  for (let i = 0; i < extents.length; i += 4) {
    const block = extents[i] as number;
    const count = extents[i + 1] as number;
    const source = extents[i + 2] as number;
    const ordinal = extents[i + 3] as number;
    const end = block + count;
    let from = block;
    const add = (to: number) => {
      if (to <= from) return;
      const position = ordinal + from - block;
      pieces.push({ block: from, count: to - from, source, position, isCompacted: true });
    };
    while (at < covered.length && (covered[at] as number) + (covered[at + 1] as number) <= block) at += 2;
    for (let next = at; next < covered.length && (covered[next] as number) < end; next += 2) {
      add(covered[next] as number);
      from = Math.max(from, (covered[next] as number) + (covered[next + 1] as number));
    }
    add(end);
  }
  return pieces;
}

/** Both ascending and apart. */
export function merged(one: readonly Piece[], other: readonly Piece[]): Piece[] {
  if (other.length === 0) return one as Piece[];
  return [...one, ...other].sort((a, b) => a.block - b.block);
}

/** What goes into one chunk. */
export interface PlannedChunk {
  number: number;
  blocks: number;
  pieces: Piece[];
}

/** Chunks of at most so many blocks, in the order of the pieces. */
export function planChunks(
  pieces: readonly Piece[],
  most: number,
  step: number,
  next: () => number,
): PlannedChunk[] {
  const chunks: PlannedChunk[] = [];
  let chunk: PlannedChunk | undefined;
  for (const piece of pieces) {
    for (let done = 0; done < piece.count; ) {
      if (chunk === undefined || chunk.blocks === most) {
        chunk = { number: next(), blocks: 0, pieces: [] };
        chunks.push(chunk);
      }
      const count = Math.min(piece.count - done, most - chunk.blocks);
      const position = piece.position + done * (piece.isCompacted ? 1 : step);
      chunk.pieces.push({ ...piece, block: piece.block + done, count, position });
      chunk.blocks += count;
      done += count;
    }
  }
  return chunks;
}
