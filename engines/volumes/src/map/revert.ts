import type { ChunkRow } from "./chunk-table.ts";
import { extentWords, type MapObject, newMapObject, rowWords } from "./codec.ts";
import { type DurableMap, readRow, writeRow } from "./durable-map.ts";

/**
 * A base that has a map's blocks lie where an earlier state of it had them. It has all chunks that the present map
 * knows, for snapshots that were taken since need them: those that are needed again live on, those that no block lies
 * in any more die in this version. Neither map changes.
 */
export async function revertedObject(
  present: DurableMap,
  then: DurableMap,
  version: number,
  pause: () => Promise<void>,
): Promise<MapObject> {
  const earlier = await then.baseObject(version, pause);
  const sources = [...present.sources, ...then.sources.filter((one) => !present.sources.includes(one))];
  const rows = new Map<number, ChunkRow>();
  const slots = new Map<string, number>();
  for (const slot of present.chunks.slots()) {
    const row = present.chunks.row(slot) as ChunkRow;
    rows.set(slot, row);
    slots.set(nameOf(row), slot);
  }
  await pause();
  const slotOf = new Map<number, number>();
  const unknown: { slot: number; row: ChunkRow }[] = [];
  for (let i = 0; i < earlier.rows.length; i += rowWords) {
    const { slot, row } = readRow(earlier.rows, i);
    if (then.chunks.live(slot) === 0) continue;
    row.source = sources.indexOf(then.sources[row.source] as string);
    const known = slots.get(nameOf(row));
    if (known === undefined) unknown.push({ slot, row });
    else slotOf.set(slot, known);
  }
  // Of other volumes' chunks the row went when the last block did.
  for (const [index, free] of present.chunks.freeSlots(unknown.length).entries()) {
    const { slot, row } = unknown[index] as { slot: number; row: ChunkRow };
    rows.set(free, row);
    slotOf.set(slot, free);
  }
  const living = new Set(slotOf.values());
  const ordered = [...rows].sort(([one], [other]) => one - other);
  const object = newMapObject("base", version, sources, {
    removed: 0,
    rows: ordered.length,
    extents: earlier.extents.length / extentWords,
  });
  for (const [index, [slot, row]] of ordered.entries()) {
    const death = living.has(slot) ? 0 : row.death === 0 ? version : row.death;
    writeRow(object.rows, index, slot, { ...row, death });
  }
  object.extents.set(earlier.extents);
  for (let i = 2; i < object.extents.length; i += extentWords) {
    object.extents[i] = slotOf.get(object.extents[i] as number) as number;
  }
  return object;
}

function nameOf({ source, epoch, number }: ChunkRow): string {
  return `${source} ${epoch} ${number}`;
}
