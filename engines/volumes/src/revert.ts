import { replaceBase } from "./base.ts";
import { noteCaptured } from "./capture.ts";
import type { Unreadable } from "./compaction.ts";
import type { Core } from "./core.ts";
import { storeMarks } from "./drain.ts";
import { fail } from "./errors.ts";
import { DurableMap } from "./map/durable-map.ts";
import { zero } from "./map/extent-map.ts";
import { revertedObject } from "./map/revert.ts";
import { loadMap } from "./map-objects.ts";
import { codeOf } from "./objects.ts";
import { readSnapshot } from "./snapshots.ts";
import { blockBytes } from "./types.ts";

/**
 * Sets the volume back to a snapshot: one swap of the manifest replaces the map and gives up what the log holds. Its
 * size stays, behind the snapshot's end are zeroes. One at a time, and nothing is written meanwhile.
 * SNAPSHOT_NOT_FOUND, VOLUME_DAMAGED: then nothing has changed.
 */
export async function revertTo(core: Core, unreadable: Unreadable, snapshot: string): Promise<void> {
  core.isReverting = true;
  try {
    await revert(core, unreadable, snapshot);
  } finally {
    core.isReverting = false;
  }
}

async function revert(core: Core, unreadable: Unreadable, snapshot: string): Promise<void> {
  const { env, id, ownership, numbers, wal, overlay, counters } = core;
  if (!ownership.manifest.Snapshots.some(({ Id }) => Id === snapshot)) {
    throw fail("SNAPSHOT_NOT_FOUND", { id, snapshot: snapshot.slice(0, 80) });
  }
  await storeMarks(core, unreadable);
  const { ending } = ownership;
  const pause = () => env.pause();
  const then = await ownership.persist(async () => {
    const manifest = await readSnapshot(env, id, snapshot, ending);
    return (await loadMap(env, manifest, core.key, ending)).map;
  }, isDamage);
  const version = numbers.map++;
  const object = await revertedObject(core.map, then, version, pause);
  const blocks = ownership.manifest.VolumeSize / blockBytes;
  const map = await DurableMap.load({ volume: id, blocks, objects: [object], pause });
  const sealed = wal.seal();
  const sequence = Number(wal.sealedSequence);
  await replaceBase(core, object, () => ({
    SeqNum: Math.max(ownership.manifest.SeqNum, sequence),
    WALNum: Math.max(ownership.manifest.WALNum, sealed + 1),
  }));
  core.map = map;
  overlay.removeWhere((source, position) => (source === zero ? position : source) <= sealed);
  counters.generation += 1;
  counters.committed = counters.changes;
  noteCaptured(core);
  await wal.remove(sealed);
}

function isDamage(error: unknown): boolean {
  return (codeOf(error) ?? "").startsWith("VOLUME_");
}
