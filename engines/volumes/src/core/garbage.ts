import { chunkObjectKey, chunkPrefix, parseSerialName } from "../chunk/names.ts";
import { drain } from "./drain.ts";
import { readManifest } from "./keeper.ts";
import type { Live } from "./live.ts";
import type { Manifest } from "./manifest.ts";
import { mapPrefix, snapshotKey, snapshotPrefix } from "./paths.ts";
import { isMissing, keysBelow } from "./store-access.ts";
import type { Collected } from "../types.ts";

/** Map objects of the volume's own that a new map does not name and no snapshot was taken with. */
export function collectOld(live: Live, before: Manifest["Map"], after: Manifest["Map"]): string[] {
  const kept = new Set(keysOf(after));
  const newest = Math.max(0, ...live.keeper.manifest.Snapshots.map(({ MapVersion }) => MapVersion));
  const base = before.Base === null ? 0 : versionOf(before.Base);
  return keysOf(before).filter((key) => {
    if (kept.has(key) || !key.startsWith(mapPrefix(live.id))) return false;
    return newest < base || versionOf(key) > newest;
  });
}

export function keysOf({ Base, Deltas }: Manifest["Map"]): string[] {
  return Base === null ? [...Deltas] : [Base, ...Deltas];
}

function versionOf(key: string): number {
  return parseSerialName(key.slice(-17))?.number ?? 0;
}

/** Nobody needs these objects any more. What cannot be deleted now is left for `collectGarbage`. */
export function deleteLater(live: Live, keys: readonly string[]): void {
  if (keys.length === 0) return;
  for (const key of keys) live.garbage.add(key);
  live.inBackground(() => deleteGarbage(live));
}

async function deleteGarbage(live: Live): Promise<void> {
  for (const key of [...live.garbage]) {
    live.garbage.delete(key);
    await live.context.store.delete(key, { signal: live.ending.signal });
  }
}

export interface CollectOptions {
  signal?: AbortSignal;
  onProgress?: (done: number, total: number) => void;
}

/** Compacts all that is worth it, then deletes every object of the volume that nobody needs. */
export async function collectGarbage(live: Live, options: CollectOptions = {}): Promise<Collected> {
  const { chunks } = live.durable;
  let rewritten = 0;
  const total = Math.max(1, chunks.ownBlocks - chunks.liveBlocks);
  for (;;) {
    options.signal?.throwIfAborted();
    const blocks = await live.inTurn(() => drain(live, { compactBlocks: 16 * 1024 }));
    rewritten += blocks;
    options.onProgress?.(Math.min(total, rewritten), total);
    if (blocks === 0) break;
  }
  // What died with the last drain goes with this one.
  await live.inTurn(() => drain(live, { compactBlocks: 0 }));
  const swept = await live.inTurn(() => sweep(live, options.signal));
  options.onProgress?.(total, total);
  return { ...swept, rewrittenBytes: rewritten * 4096 };
}

/** Deletes what a crash, or a failed delete, has left; `epoch`: only what was written in that one. */
export async function sweep(
  live: Live,
  signal: AbortSignal = live.ending.signal,
  epoch?: number,
): Promise<Omit<Collected, "rewrittenBytes">> {
  const { store } = live.context;
  const known = await namedKeys(live);
  const found = { deletedObjects: 0, deletedBytes: 0 };
  for (const prefix of [chunkPrefix(live.id), mapPrefix(live.id), snapshotPrefix(live.id)]) {
    const isSnapshot = prefix === snapshotPrefix(live.id);
    const part = epoch === undefined || isSnapshot ? "" : `${epoch.toString(16).padStart(8, "0")}-`;
    for await (const { key, sizeBytes } of keysBelow(store, `${prefix}${part}`, signal)) {
      if (known.has(key)) continue;
      await store.delete(key, { signal });
      live.garbage.delete(key);
      found.deletedObjects += 1;
      found.deletedBytes += sizeBytes;
    }
  }
  return found;
}

/** Every object that the volume's manifest, or a snapshot's, needs. */
async function namedKeys(live: Live): Promise<Set<string>> {
  const { manifest } = live.keeper;
  const known = new Set(keysOf(manifest.Map));
  const { chunks, sources } = live.durable;
  for (const slot of chunks.slots()) {
    const row = chunks.row(slot);
    if (row !== undefined && row.source === 0) {
      known.add(chunkObjectKey({ volume: sources[0] as string, epoch: row.epoch, number: row.number }));
    }
  }
  for (const { Id } of manifest.Snapshots) {
    const key = snapshotKey(live.id, Id);
    known.add(key);
    try {
      const snapshot = await readManifest(live.context.store, live.id, key, live.ending.signal);
      for (const name of keysOf(snapshot.manifest.Map)) known.add(name);
    } catch (error) {
      if (!isMissing(error) && (error as { code?: string }).code !== "VOLUME_NOT_FOUND") throw error;
    }
  }
  return known;
}
