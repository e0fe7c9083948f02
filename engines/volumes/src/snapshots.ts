import type { Unreadable } from "./compaction.ts";
import type { Core } from "./core.ts";
import { drain, storeMarks } from "./drain.ts";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import {
  decodeManifest,
  encodeManifest,
  type Manifest,
  mapKeys,
  maxManifestBytes,
  snapshotInfo,
} from "./manifest.ts";
import { dropMark, type FrozenMark, type Mark, makeMark, markedKeys } from "./marks.ts";
import { codeOf, inParallel, listObjects, readObject } from "./objects.ts";
import { newCommit, readManifest } from "./ownership.ts";
import { isVolumeId, snapshotKey } from "./paths.ts";
import type { SnapshotInfo } from "./types.ts";

const readsAtOnce = 8;
const deletesAtOnce = 8;

/** The volume at this instant: its manifest under another name. One at a time. */
export async function takeSnapshot(
  core: Core,
  unreadable: Unreadable,
  request: { name?: string; id?: string },
): Promise<SnapshotInfo> {
  const mark = makeMark(core, request);
  try {
    return await completeMark(core, unreadable, mark);
  } finally {
    dropMark(core, mark);
  }
}

/**
 * Makes a marked instant a snapshot. One at a time. MARK_GONE where it was given up meanwhile, which may be too late:
 * then it is a snapshot all the same.
 */
export async function completeMark(core: Core, unreadable: Unreadable, mark: Mark): Promise<SnapshotInfo> {
  const { env, ownership, marks } = core;
  const check = () => {
    if (!marks.includes(mark)) throw fail("MARK_GONE", { id: core.id, snapshot: mark.id });
  };
  check();
  await storeMarks(core, unreadable);
  check();
  const { manifest, version } = mark.frozen as FrozenMark;
  const { id: Id, name: Name, at: At, sizeBytes: Size } = mark;
  const entry = { Id, Name, At, Version: version, Size };
  const bytes = encodeManifest({ ...manifest, Commit: newCommit(env) });
  const key = snapshotKey(core.id, Id);
  await ownership.persist(() => env.store.put(key, bytes, { signal: ownership.ending }));
  check();
  await ownership.swap({ Snapshots: [...ownership.manifest.Snapshots, entry] });
  dropMark(core, mark);
  return snapshotInfo(entry);
}

export async function readSnapshot(
  env: Pick<Environment, "store">,
  id: string,
  snapshot: string,
  signal?: AbortSignal,
): Promise<Manifest> {
  const key = snapshotKey(id, snapshot);
  try {
    const { bytes } = await readObject(env.store, key, { maxBytes: maxManifestBytes + 1, signal });
    return decodeManifest(bytes, id, key);
  } catch (error) {
    if (codeOf(error) !== "OBJECT_NOT_FOUND") throw error;
    throw fail("VOLUME_DAMAGED", { id, object: key, why: "it is not there" }, { cause: error });
  }
}

/** Of all snapshots of an open volume, by id. */
export async function snapshotManifests(core: Core): Promise<Map<string, Manifest>> {
  const { env, ownership, id } = core;
  const manifests = new Map<string, Manifest>();
  await inParallel(ownership.manifest.Snapshots, readsAtOnce, async ({ Id }) => {
    const isFinal = (error: unknown) => (codeOf(error) ?? "").startsWith("VOLUME_");
    manifests.set(Id, await ownership.persist(() => readSnapshot(env, id, Id, ownership.ending), isFinal));
  });
  return manifests;
}

/**
 * The snapshot is marked first, and clones are looked for then: whoever clones it looks for the mark after its
 * own manifest is there, so at least one of the two sees the other. SNAPSHOT_NEEDED. One at a time.
 */
export async function removeSnapshot(core: Core, unreadable: Unreadable, id: string): Promise<void> {
  const { env, ownership, garbage } = core;
  const others = () => ownership.manifest.Snapshots.filter(({ Id }) => Id !== id);
  const entry = ownership.manifest.Snapshots.find(({ Id }) => Id === id);
  if (entry === undefined) throw fail("SNAPSHOT_NOT_FOUND", { id: core.id, snapshot: id.slice(0, 80) });
  const mark = (Snapshots: typeof entry) => ({
    Snapshots: ownership.manifest.Snapshots.map((one) => (one.Id === id ? Snapshots : one)),
  });
  await ownership.swap(mark({ ...entry, Deleting: true }));
  const clone = await ownership
    .persist(
      () => findClone(env, core.id, id, ownership.ending),
      (error) => (codeOf(error) ?? "").startsWith("VOLUME_"),
    )
    .catch(async (error: unknown) => {
      ownership.check();
      await ownership.swap(mark(entry));
      throw error;
    });
  if (clone !== undefined) {
    await ownership.swap(mark(entry));
    throw fail("SNAPSHOT_NEEDED", { snapshot: id, by: clone });
  }
  const manifests = await snapshotManifests(core);
  const removed = manifests.get(id) as Manifest;
  manifests.delete(id);
  await ownership.swap({ Snapshots: others() });
  const needed = new Set([...mapKeys(ownership.manifest), ...markedKeys(core)]);
  for (const manifest of manifests.values()) for (const key of mapKeys(manifest)) needed.add(key);
  garbage.add(snapshotKey(core.id, id));
  for (const key of mapKeys(removed)) {
    if (!needed.has(key) && key.startsWith(`${core.id}/`)) garbage.add(key);
  }
  await drain(core, unreadable, { compact: async () => [], always: true });
}

/** A volume that names the volume (and snapshot) as its source. VOLUME_CLONES_UNKNOWN where one cannot be read. */
export async function findClone(
  env: Pick<Environment, "store">,
  volume: string,
  snapshot?: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  let clone: string | undefined;
  const ids = await volumeIds(env, signal);
  await inParallel(ids, readsAtOnce, async (id) => {
    if (id === volume || clone !== undefined) return;
    try {
      const { Source } = (await readManifest(env, id, signal)).manifest;
      const isIt = Source?.Volume === volume && (snapshot === undefined || Source.Snapshot === snapshot);
      if (isIt) clone = id;
    } catch (error) {
      const code = codeOf(error);
      if (code === "VOLUME_NOT_FOUND") return;
      if (code !== "VOLUME_DAMAGED" && code !== "VOLUME_VERSION") throw error;
      const why = (error as Error).message;
      throw fail("VOLUME_CLONES_UNKNOWN", { id: volume, by: id, why }, { cause: error });
    }
  });
  return clone;
}

/** Of all volumes in the store. */
export async function volumeIds(env: Pick<Environment, "store">, signal?: AbortSignal): Promise<string[]> {
  const ids: string[] = [];
  let continuation: string | undefined;
  do {
    const page = await env.store.list({
      prefix: "vol-",
      delimiter: "/",
      ...(continuation === undefined ? {} : { continuation }),
      ...(signal === undefined ? {} : { signal }),
    });
    ids.push(...page.prefixes.map((prefix) => prefix.slice(0, -1)).filter(isVolumeId));
    continuation = page.next;
  } while (continuation !== undefined);
  return ids;
}

/** Deletes all objects of a volume, its manifest last. */
export async function deleteObjects(
  env: Pick<Environment, "store">,
  id: string,
  manifest: string,
): Promise<void> {
  const keys: string[] = [];
  for await (const { key } of listObjects(env.store, `${id}/`)) keys.push(key);
  await inParallel(
    keys.filter((key) => key !== manifest),
    deletesAtOnce,
    (key) => env.store.delete(key),
  );
  await env.store.delete(manifest);
}
