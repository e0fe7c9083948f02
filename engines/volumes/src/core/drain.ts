import { type Captured, capture, compactionVictims, forget, plan } from "./capture.ts";
import { chunkBlocks } from "../chunk/format.ts";
import { chunkObjectKey } from "../chunk/names.ts";
import { collectOld, deleteLater } from "./garbage.ts";
import type { Live } from "./live.ts";
import type { Manifest } from "./manifest.ts";
import type { ChunkRow } from "../map/chunk-table.ts";
import { extentWords, type MapObject } from "../map/codec.ts";
import type { MapDelta } from "../map/durable-map.ts";
import { hole } from "../map/extent-map.ts";
import { encodeMap } from "./map-objects.ts";
import { mapObjectKey } from "./paths.ts";
import { putObject, uploadChunk } from "./upload.ts";

export interface DrainOptions {
  /** How much may be compacted with it, in blocks; by default a share of what the log holds. */
  compactBlocks?: number;
  /** Changes of the manifest that go with it. */
  change?: Partial<Manifest>;
  /** Called in the turn in which the volume is captured. */
  onCapture?(): void;
}

/**
 * Puts the volume's state of one instant into the store: chunks, a map object, the manifest; then what is not
 * needed any more goes. In turn with other changes (`Live.inTurn`). How many blocks it compacted.
 */
export async function drain(live: Live, options: DrainOptions = {}): Promise<number> {
  const share = Math.floor(live.overlay.blocks * live.context.tuning.compactShare);
  const victims = compactionVictims(live, options.compactBlocks ?? share);
  const compacted = victims.length === 0 ? [] : await live.durable.liveExtents(victims, live.context.pause);
  options.onCapture?.();
  const captured = capture(live, compacted);
  const { manifest } = live.keeper;
  const walNumber = Math.max(manifest.WALNum, captured.sealed + 1);
  const change: Partial<Manifest> = { ...options.change, SeqNum: captured.sequence, WALNum: walNumber };
  const delta = await putChunks(live, captured);
  const removed = live.durable.freeable(manifest.Snapshots.map(({ MapVersion }) => MapVersion));
  const slots = removed.map(({ slot }) => slot);
  const isSame = delta.rows.length === 0 && delta.extents.length === 0 && slots.length === 0;
  if (isSame && options.change === undefined && walNumber === manifest.WALNum) return 0;

  const dead = removed.filter(({ own }) => own).map(({ slot }) => live.chunkRef(slot).name);
  const written = isSame ? undefined : await putMap(live, { ...delta, removed: slots });
  await delta.stored;
  await live.keeper.swap({
    ...change,
    ObjectNum: live.nextChunk,
    BlockToObjectWALNum: live.nextVersion,
    ...(written === undefined ? {} : { Map: written.map }),
  });
  // All in one turn: a reader finds each block here or there.
  if (written !== undefined) live.durable.apply(written.delta);
  forget(live, captured);
  for (const name of dead) live.context.reader.forget(name);
  deleteLater(live, dead.map(chunkObjectKey));
  if (written !== undefined) deleteLater(live, collectOld(live, manifest.Map, written.map));
  await live.wal.remove(captured.sealed);
  return captured.runs.reduce((sum, { from, count }) => (from === "chunk" ? sum + count : sum), 0);
}

interface NewChunks {
  rows: { slot: number; row: Omit<ChunkRow, "birth"> }[];
  extents: number[];
  /** Settles when the store has all chunks. */
  stored: Promise<unknown>;
}

/** All chunks are encoded when it settles, and on their way. */
async function putChunks(live: Live, captured: Captured): Promise<NewChunks> {
  const most = chunkBlocks(live.keeper.manifest.ObjBlockSize);
  const uploads = plan(captured.runs, most, live.slotBytes).map((runs) => uploadChunk(live, runs));
  const stored = Promise.all(uploads.map(({ done }) => done));
  stored.catch(() => undefined);
  try {
    const chunks = (await Promise.all(uploads.map(({ encoded }) => encoded))).filter(
      (one) => one !== undefined,
    );
    const slots = live.durable.chunks.freeSlots(chunks.length);
    const runs: [number, number, number, number][] = [];
    const rows = chunks.map(({ extents, ...row }, index) => {
      const slot = slots[index] as number;
      let ordinal = 0;
      for (const { block, count } of extents) {
        runs.push([block, count, slot, ordinal]);
        ordinal += count;
      }
      return { slot, row: { ...row, source: 0, death: 0 } };
    });
    for (let i = 0; i < captured.zeroes.length; i += 2) {
      runs.push([captured.zeroes[i] as number, captured.zeroes[i + 1] as number, hole, 0]);
    }
    runs.sort((one, other) => one[0] - other[0]);
    return { rows, extents: runs.flat(), stored };
  } catch (error) {
    // Nothing of it is used; but nothing of it goes on behind the caller's back either.
    await Promise.allSettled(uploads.map(({ done }) => done));
    throw error;
  }
}

interface WrittenMap {
  map: Manifest["Map"];
  delta: MapDelta;
}

/** The delta, and where the deltas have become many, a base of what was before it. */
async function putMap(live: Live, change: Pick<MapDelta, "removed"> & NewChunks): Promise<WrittenMap> {
  const { keeper, durable, context } = live;
  const { Map: before } = keeper.manifest;
  const { maxDeltas, minBaseBytes } = context.tuning;
  let { Base, BaseBytes, Deltas, DeltaBytes } = before;
  const about = change.extents.length * (16 / extentWords) + change.rows.length * 36;
  if (Deltas.length >= maxDeltas || DeltaBytes + about > Math.max(BaseBytes, minBaseBytes)) {
    const base = await putMapObject(live, await durable.baseObject(nextVersion(live), context.pause));
    [Base, BaseBytes, Deltas, DeltaBytes] = [base.key, base.bytes, [], 0];
  }
  const version = nextVersion(live);
  const rows = change.rows.map(({ slot, row }) => ({ slot, row: { ...row, birth: version } }));
  const delta = { version, removed: change.removed, rows, extents: change.extents };
  const object = await putMapObject(live, durable.deltaObject(delta));
  const map = { Base, BaseBytes, Deltas: [...Deltas, object.key], DeltaBytes: DeltaBytes + object.bytes };
  return { map, delta };
}

function nextVersion(live: Live): number {
  return live.nextVersion++;
}

async function putMapObject(live: Live, object: MapObject): Promise<{ key: string; bytes: number }> {
  const key = mapObjectKey(live.id, live.keeper.manifest.Epoch, object.version);
  const body = await encodeMap(live.context, live.key, key, object);
  await putObject(live, key, body);
  return { key, bytes: body.length };
}
