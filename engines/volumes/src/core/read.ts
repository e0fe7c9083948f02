import type { BlockExtent, ReadResult, Zeroes } from "@skep/nbd";
import { ChunkDamaged } from "../chunk/format.ts";
import { chunkObjectKey } from "../chunk/names.ts";
import { fail } from "../errors.ts";
import type { Live } from "./live.ts";
import { hole, zero } from "../map/extent-map.ts";
import { isMissing } from "./store-access.ts";
import { blockBytes } from "../types.ts";

type Piece = Uint8Array | Zeroes;
/** Of one run, without a promise where it is at hand. */
type Pieces = readonly Piece[] | Promise<readonly Piece[]>;

export interface ReadHints {
  signal?: AbortSignal;
  /** What comes next will be read as well. */
  sequential?: boolean;
}

/** Whole blocks: the pieces of all runs, in order. */
export function readBlocks(live: Live, block: number, count: number, hints: ReadHints = {}): Pieces {
  const runs: Pieces[] = [];
  let waits = false;
  const { overlay } = live;
  for (let at = block; at < block + count; ) {
    const length = overlay.find(at, block + count - at);
    const { foundSource: source, foundPosition: position } = overlay;
    if (source === hole) {
      for (let below = at; below < at + length; ) {
        const { taken, pieces } = readDurable(live, below, at + length - below, hints);
        if (pieces instanceof Promise) waits = true;
        runs.push(pieces);
        below += taken;
      }
    } else if (source === zero) {
      runs.push([{ zeroes: length * blockBytes }]);
    } else {
      const pieces = live.wal.read(source, position, length);
      if (pieces instanceof Promise) waits = true;
      runs.push(pieces);
    }
    at += length;
  }
  if (waits) return Promise.all(runs).then((all) => all.flat());
  return runs.length === 1 ? (runs[0] as readonly Piece[]) : (runs as (readonly Piece[])[]).flat();
}

function readDurable(
  live: Live,
  block: number,
  count: number,
  hints: ReadHints,
): { taken: number; pieces: Pieces } {
  const { extents } = live.durable;
  const taken = extents.find(block, count);
  const { foundSource: slot, foundPosition: ordinal } = extents;
  if (slot === hole) return { taken, pieces: [{ zeroes: taken * blockBytes }] };
  const ref = live.chunkRef(slot);
  try {
    const pieces = live.context.reader.read(ref, ordinal, taken, hints);
    if (!(pieces instanceof Promise)) return { taken, pieces };
    const name = chunkObjectKey(ref.name);
    return {
      taken,
      pieces: pieces.catch((error) => readAgain(live, { block, count: taken, name }, error, hints)),
    };
  } catch (error) {
    throw damaged(live, chunkObjectKey(ref.name), error);
  }
}

/** A chunk that was deleted meanwhile: by then the map says where its blocks are now. */
async function readAgain(
  live: Live,
  asked: { block: number; count: number; name: string },
  error: unknown,
  hints: ReadHints,
): Promise<readonly Piece[]> {
  const { block, count, name } = asked;
  if (!isMissing(error)) throw damaged(live, name, error);
  live.check();
  const length = live.durable.extents.find(block, count);
  const slot = live.durable.extents.foundSource;
  const isSame = length === count && slot !== hole && chunkObjectKey(live.chunkRef(slot).name) === name;
  if (isSame && live.overlay.find(block, count) === count && live.overlay.foundSource === hole) {
    throw fail("VOLUME_DAMAGED", { id: live.id, object: name, why: "it is not there" }, { cause: error });
  }
  return readBlocks(live, block, count, hints);
}

function damaged(live: Live, object: string, error: unknown): unknown {
  if (!(error instanceof ChunkDamaged)) return error;
  return fail("VOLUME_DAMAGED", { id: live.id, object, why: error.why }, { cause: error });
}

/** Bytes of any alignment. */
export function readBytes(
  live: Live,
  offset: number,
  length: number,
  hints: ReadHints,
): ReadResult | Promise<ReadResult> {
  const first = Math.floor(offset / blockBytes);
  const end = Math.ceil((offset + length) / blockBytes);
  const pieces = readBlocks(live, first, end - first, hints);
  const skip = offset - first * blockBytes;
  if (skip === 0 && length === (end - first) * blockBytes) return pieces;
  return pieces instanceof Promise ? pieces.then((all) => cut(all, skip, length)) : cut(pieces, skip, length);
}

function cut(pieces: readonly Piece[], skip: number, length: number): Piece[] {
  const kept: Piece[] = [];
  let at = 0;
  for (const piece of pieces) {
    const bytes = lengthOf(piece);
    const start = Math.max(0, skip - at);
    const end = Math.min(bytes, skip + length - at);
    if (start < end) kept.push("zeroes" in piece ? { zeroes: end - start } : piece.subarray(start, end));
    at += bytes;
  }
  return kept;
}

function lengthOf(piece: Piece): number {
  return "zeroes" in piece ? piece.zeroes : piece.length;
}

/** All of it in one buffer. */
export function joinPieces(pieces: readonly Piece[]): Buffer {
  const total = pieces.reduce((sum, piece) => sum + lengthOf(piece), 0);
  const bytes = Buffer.alloc(total);
  let at = 0;
  for (const piece of pieces) {
    if (!("zeroes" in piece)) bytes.set(piece, at);
    at += lengthOf(piece);
  }
  return bytes;
}

/** What is mapped in the range: blocks of the volume, whether in the log or in the store. */
export function statusOf(live: Live, offset: number, length: number, maxExtents: number): BlockExtent[] {
  const end = offset + length;
  const found: BlockExtent[] = [];
  const { overlay } = live;
  const { extents } = live.durable;
  const add = (bytes: number, isHole: boolean) => {
    const last = found.at(-1);
    if (last !== undefined && last.hole === isHole) last.length += bytes;
    else found.push({ length: bytes, hole: isHole, zero: isHole });
  };
  let at = Math.floor(offset / blockBytes);
  const lastBlock = Math.ceil(end / blockBytes);
  const begin = at;
  while (at < lastBlock && found.length <= maxExtents) {
    let run = overlay.find(at, lastBlock - at);
    let isHole = overlay.foundSource === zero;
    if (overlay.foundSource === hole) {
      run = Math.min(overlay.firstMapped(at, lastBlock - at) - at, lastBlock - at);
      const below = extents.find(at, run);
      isHole = extents.foundSource === hole;
      run = isHole ? Math.min(run, extents.firstMapped(at, run) - at) : below;
    }
    add(run * blockBytes, isHole);
    at += run;
  }
  // The first and the last one end where the question does.
  const [first] = found;
  if (first !== undefined) first.length -= offset - begin * blockBytes;
  let rest = length;
  const clipped: BlockExtent[] = [];
  for (const extent of found) {
    if (rest <= 0 || clipped.length === maxExtents) break;
    clipped.push({ ...extent, length: Math.min(extent.length, rest) });
    rest -= extent.length;
  }
  return clipped;
}
