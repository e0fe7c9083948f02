import { chunkBlocks } from "./chunk/format.ts";
import { chunkObjectKey } from "./chunk/names.ts";
import { rewrite, snapshotVersions, type Unreadable } from "./compaction.ts";
import type { Core } from "./core.ts";
import { drain } from "./drain.ts";
import { mapKeys } from "./manifest.ts";
import { markedKeys } from "./marks.ts";
import { inParallel, listObjects } from "./objects.ts";
import { manifestKey, snapshotKey, volumePrefix } from "./paths.ts";
import { snapshotManifests } from "./snapshots.ts";
import type { Collected } from "./types.ts";

export const deletesAtOnce = 8;
/** While somebody may wait for what the same store does for a flush. */
const backgroundDeletes = 2;
const chunksAtOnce = 32;

/** Deletes what no manifest names any more; what cannot be deleted now stays on the list. */
export async function sweep(core: Core, atOnce = backgroundDeletes): Promise<number> {
  const { garbage, env, ownership } = core;
  let deleted = 0;
  await inParallel([...garbage], atOnce, async (key) => {
    try {
      await env.store.delete(key, { signal: ownership.ending });
      garbage.delete(key);
      deleted += 1;
    } catch (error) {
      env.log(`${key} cannot be deleted now: ${(error as Error).message}`);
    }
  });
  return deleted;
}

export interface CollectOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Writes chunks with dead blocks, and small ones, again; deletes all that nobody needs. One at a time. */
export async function collectGarbage(
  core: Core,
  unreadable: Unreadable,
  options: CollectOptions = {},
): Promise<Collected> {
  const { signal, onProgress } = options;
  await drain(core, unreadable);
  const collected: Collected = { deletedObjects: 0, deletedBytes: 0, rewrittenBytes: 0 };
  const chosen = wasteful(core, unreadable);
  const total = chosen.length + 1;
  for (let done = 0; done < chosen.length; done += chunksAtOnce) {
    signal?.throwIfAborted();
    onProgress?.(done, total);
    const batch = chosen.slice(done, done + chunksAtOnce);
    // A drain between two batches may have compacted some of them, and given their slots to others.
    const slots = batch.filter(({ slot, name }) => nameIn(core, slot) === name).map(({ slot }) => slot);
    const before = core.counters.bytesToStore;
    try {
      const compact = (all: Parameters<typeof rewrite>[2]) => rewrite(core, slots, all);
      await drain(core, unreadable, { compact, always: true });
    } catch (error) {
      core.ownership.check();
      if (!slots.some((slot) => unreadable.has(slot))) throw error;
    }
    collected.rewrittenBytes += core.counters.bytesToStore - before;
  }
  // The rows of chunks that have died go, then their objects.
  await drain(core, unreadable, { compact: async () => [], always: true });
  await deleteOrphans(core, collected, signal);
  onProgress?.(total, total);
  return collected;
}

function nameIn(core: Core, slot: number): string {
  const row = core.map.chunks.row(slot);
  return row === undefined ? "" : chunkObjectKey({ volume: core.id, epoch: row.epoch, number: row.number });
}

function wasteful(core: Core, unreadable: Unreadable): { slot: number; name: string }[] {
  const { map, ownership } = core;
  const fullBlocks = chunkBlocks(ownership.manifest.ObjBlockSize);
  const rule = { fullBlocks, limit: Number.POSITIVE_INFINITY, snapshotVersions: snapshotVersions(core) };
  const slots = map
    .compactionCandidates({ ...rule, maxLiveRatio: 1 })
    .filter((slot) => !unreadable.has(slot))
    .filter((slot) => {
      const live = map.chunks.live(slot);
      return live < map.chunks.blocks(slot) * 0.9 || live < fullBlocks / 2;
    });
  const live = slots.reduce((sum, slot) => sum + map.chunks.live(slot), 0);
  const dead = slots.some((slot) => map.chunks.live(slot) < map.chunks.blocks(slot));
  if (!dead && Math.ceil(live / fullBlocks) >= slots.length) return [];
  return slots.map((slot) => ({ slot, name: nameIn(core, slot) }));
}

/** What lies in the store and no manifest names: left by crashes, and by owners before this one. */
async function deleteOrphans(core: Core, collected: Collected, signal?: AbortSignal): Promise<void> {
  const { id, env, ownership, map, garbage } = core;
  const found = await ownership.persist(
    async () => {
      const objects: { key: string; sizeBytes: number }[] = [];
      for await (const object of listObjects(env.store, volumePrefix(id), signal)) objects.push(object);
      return objects;
    },
    () => signal?.aborted === true, // no trying helps then
  );
  const snapshots = await snapshotManifests(core);
  // Had another one taken the volume before this, some of what was found might be its.
  await ownership.swap({});
  const needed = new Set([manifestKey(id)]);
  for (const slot of map.chunks.slots()) {
    if (map.chunks.source(slot) === 0) needed.add(nameIn(core, slot));
  }
  for (const [snapshot, manifest] of snapshots) {
    needed.add(snapshotKey(id, snapshot));
    for (const key of mapKeys(manifest)) needed.add(key);
  }
  for (const key of [...mapKeys(ownership.manifest), ...markedKeys(core)]) needed.add(key);
  for (const { key, sizeBytes } of found) {
    if (needed.has(key)) continue;
    garbage.add(key);
    collected.deletedBytes += sizeBytes;
  }
  collected.deletedObjects += await sweep(core, deletesAtOnce);
}
