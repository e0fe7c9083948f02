import type { ReadOptions, ReadResult, Zeroes } from "@skep/nbd";
import { ChunkDamaged } from "./chunk/format.ts";
import { chunkObjectKey } from "./chunk/names.ts";
import type { ChunkRef } from "./chunk/reader.ts";
import type { Core } from "./core.ts";
import { fail } from "./errors.ts";
import { hole, zero } from "./map/extent-map.ts";
import { codeOf } from "./objects.ts";
import { persistently } from "./retry.ts";
import { blockBytes } from "./types.ts";

type Part = Uint8Array | Zeroes;
type Parts = Part[] | Promise<Part[]>;

interface Hints {
  signal: AbortSignal;
  sequential?: boolean;
  lend?: ReadOptions["lend"] | undefined;
}

/** A read that begins so many blocks after the last one goes on with it. */
const nearBlocks = 64;
/** How often a chunk that does not look right is fetched anew before that is believed. */
const doubts = 2;

/** What lies in a range of bytes; at hand where no disk or store needs to be waited for. */
export function readRange(
  core: Core,
  offset: number,
  length: number,
  { signal, lend }: ReadOptions,
): ReadResult | Promise<ReadResult> {
  const first = Math.floor(offset / blockBytes);
  const end = Math.ceil((offset + length) / blockBytes);
  const skip = offset - first * blockBytes;
  const { counters } = core;
  const sequential = first >= counters.readEnd && first < counters.readEnd + nearBlocks && first > 0;
  counters.readEnd = end;
  const parts = readBlocks(core, first, end - first, { signal, sequential, lend });
  if (parts instanceof Promise) return parts.then((whole) => clip(whole, skip, length));
  return clip(parts, skip, length);
}

function clip(parts: Part[], skip: number, length: number): ReadResult {
  const [only] = parts;
  if (skip === 0 && only instanceof Uint8Array && only.length === length) return only;
  const clipped: Part[] = [];
  let left = length;
  let from = skip;
  for (const part of parts) {
    const size = part instanceof Uint8Array ? part.length : part.zeroes;
    const count = Math.min(size - from, left);
    if (count > 0) {
      clipped.push(part instanceof Uint8Array ? part.subarray(from, from + count) : { zeroes: count });
      left -= count;
    }
    from = Math.max(0, from - size);
  }
  return clipped;
}

/** Parts that are together those blocks. */
export function readBlocks(core: Core, first: number, count: number, hints: Hints): Parts {
  const found: Parts[] = [];
  let isAtHand = true;
  const add = (parts: Parts) => {
    if (parts instanceof Promise) {
      isAtHand = false;
      parts.catch(() => undefined);
    }
    found.push(parts);
  };
  const { overlay, map, wal } = core;
  for (let block = first; block < first + count; ) {
    let run = overlay.find(block, first + count - block);
    const source = overlay.foundSource;
    if (source === zero) add([{ zeroes: run * blockBytes }]);
    else if (source !== hole) add(wal.read(source, overlay.foundPosition, run, hints.lend));
    else {
      run = map.extents.find(block, run);
      const slot = map.extents.foundSource;
      if (slot === hole) add([{ zeroes: run * blockBytes }]);
      else add(readChunk(core, { block, count: run, slot, ordinal: map.extents.foundPosition }, hints));
    }
    block += run;
  }
  if (isAtHand) return found.length === 1 ? (found[0] as Part[]) : (found as Part[][]).flat();
  return Promise.all(found).then((parts) => parts.flat());
}

/** The chunk in a slot, for the reader. */
export function chunkRef(core: Pick<Core, "map" | "key">, slot: number): ChunkRef {
  const row = core.map.chunks.row(slot);
  if (row === undefined) throw new RangeError(`no chunk is in slot ${slot}`);
  const { source, epoch, number, bytes, headerBytes, blocks } = row;
  const volume = core.map.sources[source] as string;
  return { name: { volume, epoch, number }, sizeBytes: bytes, headerBytes, blocks, key: core.key };
}

interface Run {
  block: number;
  count: number;
  slot: number;
  ordinal: number;
}

function readChunk(core: Core, run: Run, hints: Hints): Parts {
  const { block, count, slot, ordinal } = run;
  const { counters, env } = core;
  const ref = chunkRef(core, slot);
  const { generation } = counters;
  const failed = (error: unknown) =>
    readAgain(core, { block, count, ref, ordinal, generation }, error, hints.signal);
  let parts: Parts;
  try {
    parts = env.reader.read(ref, ordinal, count, hints);
  } catch (error) {
    return failed(error);
  }
  if (!(parts instanceof Promise)) return parts;
  if (env.store.file === undefined) counters.bytesFromStore += count * blockBytes;
  return parts.catch(failed);
}

interface Missed {
  block: number;
  count: number;
  ref: ChunkRef;
  ordinal: number;
  generation: number;
}

/** The store does not answer, the chunk is gone because the map has changed meanwhile, or it is damaged. */
async function readAgain(core: Core, missed: Missed, error: unknown, signal: AbortSignal): Promise<Part[]> {
  const { block, count, ref, ordinal, generation } = missed;
  const { reader, clock } = core.env;
  const { ownership, counters } = core;
  signal.throwIfAborted();
  let last = error;
  try {
    if (!isDamage(error)) {
      const ending = AbortSignal.any([signal, ownership.ending]);
      const work = async () => reader.read(ref, ordinal, count, { signal });
      return await persistently(work, { clock, signal: ending, problems: ownership, isFinal: isDamage });
    }
    for (let tries = 0; tries < doubts && error instanceof ChunkDamaged; tries += 1) {
      reader.forget(ref.name);
      try {
        return await reader.read(ref, ordinal, count, { signal });
      } catch (again) {
        last = again;
      }
    }
  } catch (final) {
    last = final;
  }
  signal.throwIfAborted();
  if (counters.generation !== generation) return readBlocks(core, block, count, { signal });
  if (!isDamage(last)) throw last;
  const why = last instanceof ChunkDamaged ? last.why : (last as Error).message;
  throw fail("VOLUME_DAMAGED", { id: core.id, object: chunkObjectKey(ref.name), why }, { cause: last });
}

/** What trying again does not help against. */
export function isDamage(error: unknown): boolean {
  if (error instanceof ChunkDamaged) return true;
  return ["OBJECT_NOT_FOUND", "OBJECT_DAMAGED", "RANGE_INVALID", "VOLUME_DAMAGED"].includes(
    codeOf(error) ?? "",
  );
}
