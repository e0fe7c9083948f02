import { encodedObject, inlineBytes, putMapObject, rebase } from "./base.ts";
import { type Capture, capture, captureOf, merged, noteCaptured, type Piece, planChunks } from "./capture.ts";
import { chunkBlocks } from "./chunk/format.ts";
import { chunkObjectKey } from "./chunk/names.ts";
import { compactWith, snapshotVersions, type Unreadable } from "./compaction.ts";
import type { Core } from "./core.ts";
import type { Manifest } from "./manifest.ts";
import type { ChunkRow } from "./map/chunk-table.ts";
import type { MapObject } from "./map/codec.ts";
import type { MapDelta } from "./map/durable-map.ts";
import { type ExtentMap, hole, zero } from "./map/extent-map.ts";
import { freezeMark, waitingMark } from "./marks.ts";
import { inParallel } from "./objects.ts";
import { mapKey } from "./paths.ts";
import { CompactionFailed, extentsOf, putChunk } from "./put-chunk.ts";

const uploadsAtOnce = 4;
/** Larger ones are objects of their own: the manifest is written with each drain. */
const inlineDeltaBytes = 4 * 1024;

export interface DrainOptions {
  /** What else is to be written again; without it, what compaction chooses. */
  compact?: ((captured: Capture) => Promise<Piece[]>) | undefined;
  /** Also where nothing was written: rows of chunks that nobody needs go. */
  always?: boolean;
  /** Called when the store has it, and before the log and the map's objects are put in order. */
  onStored?: () => void;
}

/**
 * Captures the volume's state, and returns once the store has it. The durable map, the overlay and the log
 * change only then. One at a time.
 */
export async function drain(core: Core, unreadable: Unreadable, options: DrainOptions = {}): Promise<void> {
  const { counters, ownership } = core;
  ownership.check();
  // Again where one was made in the very moment: what is captured next comes after it.
  while (waitingMark(core) !== undefined) await storeMarks(core, unreadable);
  if (counters.changes === counters.committed && options.always !== true) return;
  await storeCapture(core, unreadable, capture(core), options);
}

/**
 * Marks come before all that was changed after them: once, the durable map has to stand at the instant of each. One
 * at a time, as a drain.
 */
export async function storeMarks(core: Core, unreadable: Unreadable): Promise<void> {
  const { counters } = core;
  for (let mark = waitingMark(core); mark !== undefined; mark = waitingMark(core)) {
    const { instant } = mark;
    if (instant.changes !== counters.committed) {
      await storeCapture(core, unreadable, captureOf(core, instant), {});
    }
    freezeMark(core, mark);
    if (counters.changes === counters.committed) noteCaptured(core);
  }
}

async function storeCapture(
  core: Core,
  unreadable: Unreadable,
  captured: Capture,
  options: DrainOptions,
): Promise<void> {
  const compact = options.compact ?? ((all) => compactWith(core, all, unreadable));
  for (;;) {
    try {
      await store(core, captured, await compact(captured));
      break;
    } catch (error) {
      if (!(error instanceof CompactionFailed)) throw error;
      unreadable.add(error.slot);
      core.env.log(`${core.id}: ${error.message}, and is left as it is: ${(error.cause as Error).message}`);
      if (options.compact !== undefined) throw error.cause;
    }
  }
  options.onStored?.();
  await core.wal.remove(captured.sealed);
  await rebase(core);
}

async function store(core: Core, captured: Capture, compacted: Piece[]): Promise<void> {
  const { numbers, ownership, slotBytes, map, overlay, counters } = core;
  const { manifest } = ownership;
  const most = chunkBlocks(manifest.ObjBlockSize);
  const pieces = merged(captured.pieces, compacted);
  const chunks = planChunks(pieces, most, slotBytes, () => numbers.chunk++);
  const removed = map.freeable(snapshotVersions(core));
  const slots = map.chunks.freeSlots(chunks.length);
  const rows: Promise<ChunkRow>[] = [];
  const puts = chunks.map((chunk) => {
    const { promise, resolve, reject } = Promise.withResolvers<ChunkRow>();
    promise.catch(() => undefined);
    rows.push(promise);
    return () =>
      putChunk(core, chunk, manifest.Compression, resolve).catch((error: unknown) => {
        reject(error as Error);
        throw error;
      });
  });
  const isEmpty = chunks.length === 0 && captured.holes.length === 0 && removed.length === 0;
  const version = isEmpty ? 0 : numbers.map++;
  let delta: MapDelta | undefined;
  let place = manifest.Map;
  const uploads = inParallel(puts, uploadsAtOnce, (put) => put());
  const describe = async () => {
    // Where one fails, others are never begun, and have no rows.
    const encoded = await Promise.race([Promise.all(rows), uploads.then(() => Promise.all(rows))]);
    delta = {
      version,
      removed: removed.map(({ slot }) => slot),
      rows: encoded.map((row, i) => ({ slot: slots[i] as number, row: { ...row, birth: version } })),
      extents: extentsFor(chunks, slots, captured.holes),
    };
    place = await putDelta(core, map.deltaObject(delta));
  };
  const results = await Promise.allSettled([uploads, isEmpty ? undefined : describe()]);
  const failures = results.flatMap((one) => (one.status === "rejected" ? [one.reason as unknown] : []));
  const failure = failures.find((one) => one instanceof CompactionFailed) ?? failures[0];
  if (failure !== undefined) {
    const epoch = manifest.Epoch;
    for (const { number } of chunks) core.garbage.add(chunkObjectKey({ volume: core.id, epoch, number }));
    if (!isEmpty) core.garbage.add(mapKey(core.id, epoch, version));
    throw failure;
  }
  const change: Partial<Manifest> = {
    SeqNum: Math.max(manifest.SeqNum, captured.sequence),
    ObjectNum: numbers.chunk,
    WALNum: Math.max(manifest.WALNum, captured.sealed + 1),
  };
  if (delta !== undefined) {
    change.BlockToObjectWALNum = numbers.map;
    change.Map = place;
  }
  const freed = removed.filter(({ own }) => own).map(({ slot }) => map.chunks.row(slot) as ChunkRow);
  await ownership.swap(change);
  // In one turn, so that a reader finds every block in one of the two.
  if (delta !== undefined) map.apply(delta);
  counters.generation += 1;
  counters.committed = captured.changes;
  overlay.removeWhere((source, position) => (source === zero ? position : source) <= captured.sealed);
  for (const piece of captured.pieces) {
    if (piece.source > captured.sealed) forget(overlay, piece, slotBytes);
  }
  for (const { epoch, number } of freed) {
    core.env.reader.forget({ volume: core.id, epoch, number });
    core.garbage.add(chunkObjectKey({ volume: core.id, epoch, number }));
  }
}

/**
 * Takes a run out of the overlay that was captured, unless it was written since. Its segment, which could not be
 * sealed, stays for what came later.
 */
function forget(overlay: ExtentMap, { block, count, source, position }: Piece, slotBytes: number): void {
  for (let at = block; at < block + count; ) {
    const run = overlay.find(at, block + count - at);
    const isSame = overlay.foundSource === source;
    if (isSame && overlay.foundPosition === position + (at - block) * slotBytes) overlay.remove(at, run);
    at += run;
  }
}

/** block, blocks, slot, ordinal, …, ascending. */
function extentsFor(
  chunks: ReturnType<typeof planChunks>,
  slots: readonly number[],
  holes: readonly number[],
): number[] {
  const extents: number[] = [];
  let at = 0;
  const holesBefore = (block: number) => {
    for (; at < holes.length && (holes[at] as number) < block; at += 2) {
      extents.push(holes[at] as number, holes[at + 1] as number, hole, 0);
    }
  };
  for (const [index, chunk] of chunks.entries()) {
    let ordinal = 0;
    for (const { block, count } of extentsOf(chunk)) {
      holesBefore(block);
      extents.push(block, count, slots[index] as number, ordinal);
      ordinal += count;
    }
  }
  holesBefore(Number.POSITIVE_INFINITY);
  return extents;
}

/** Where the map is with a delta more: a small one goes into the manifest, which spares an object. */
async function putDelta(core: Core, object: MapObject): Promise<Manifest["Map"]> {
  const { Base, Deltas, Inline } = core.ownership.manifest.Map;
  const { key, bytes } = await encodedObject(core, object);
  const isSmall = bytes.length <= inlineDeltaBytes && inlineBytes(Inline) < core.env.inlineBytes;
  if (!isSmall) await putMapObject(core, key, bytes);
  core.mapBytes.set(key, bytes.length);
  const inline = isSmall ? { [key]: Buffer.from(bytes).toString("base64") } : {};
  return { Base, Deltas: [...Deltas, key], Inline: { ...Inline, ...inline } };
}
