import { join } from "node:path";
import { isErrno } from "@skep/base";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import type { Manifest } from "./manifest.ts";
import { codeOf } from "./objects.ts";
import { newCommit, putManifest, readManifest } from "./ownership.ts";
import { checkVolumeId, localPaths, manifestKey, ownerName, ownerWords } from "./paths.ts";
import { deleteObjects, findClone } from "./snapshots.ts";
import { removeFile, segmentName, segmentNumbers } from "./wal/segment.ts";

/**
 * The manifest is marked first, so that nobody opens or clones the volume any more, and goes last, so that an
 * interrupted removal can be repeated.
 */
export async function removeVolume(
  env: Environment,
  id: string,
  options: { snapshots?: boolean; force?: boolean } = {},
): Promise<void> {
  checkVolumeId(id);
  const { snapshots = false, force = false } = options;
  const local = await localFiles(env, id);
  let found: Awaited<ReturnType<typeof readManifest>> | undefined;
  try {
    found = await readManifest(env, id);
  } catch (error) {
    const isKnown = ["VOLUME_DAMAGED", "VOLUME_VERSION", "VOLUME_NOT_FOUND"].includes(codeOf(error) ?? "");
    if (!force || !isKnown) throw error;
  }
  if (found !== undefined) await mark(env, found, { snapshots, force, words: local.words });
  await deleteObjects(env, id, manifestKey(id));
  for (const path of local.paths) await removeFile(env.files, path);
}

async function mark(
  env: Environment,
  { manifest, etag }: { manifest: Manifest; etag: string },
  options: { snapshots: boolean; force: boolean; words: readonly string[] },
): Promise<void> {
  const { VolumeName: id, Owner, Snapshots, Epoch } = manifest;
  if (Owner !== null && !options.force && manifest.Removing !== true && !options.words.includes(Owner.Wal)) {
    throw fail("VOLUME_IN_USE", { id, host: Owner.Host, since: new Date(Owner.Since).toISOString() });
  }
  if (Snapshots.length > 0 && !options.snapshots && !options.force) {
    throw fail("VOLUME_HAS_SNAPSHOTS", { id, count: Snapshots.length });
  }
  const marked: Manifest = {
    ...manifest,
    Epoch: Epoch + 1,
    Commit: newCommit(env),
    Removing: true,
    Snapshots: Snapshots.map((entry) => ({ ...entry, Deleting: true })),
  };
  const put = await putManifest(env, marked, etag);
  if (put === undefined) throw fail("VOLUME_NEEDED", { id, by: "somebody who has just changed it" });
  const unmark = async () => {
    if (manifest.Removing === true) return; // some of it may be gone
    const { Removing: _, ...unmarked } = { ...manifest, Epoch: Epoch + 1, Commit: newCommit(env) };
    await putManifest(env, unmarked, put.etag);
  };
  const clone = await findClone(env, id).catch(async (error: unknown) => {
    await unmark();
    throw error;
  });
  if (clone === undefined) return;
  await unmark();
  throw fail("VOLUME_NEEDED", { id, by: `volume "${clone}", a clone of it` });
}

/** What this host has of the volume. */
async function localFiles(env: Environment, id: string): Promise<{ words: string[]; paths: string[] }> {
  const { directory, wal } = localPaths(env.directory, id);
  const words = ownerWords(await names(env, directory));
  const segments = segmentNumbers(await names(env, wal));
  return {
    words,
    paths: [
      ...segments.map((number) => join(wal, segmentName(number))),
      ...words.map((word) => join(directory, ownerName(word))),
    ],
  };
}

async function names(env: Environment, directory: string): Promise<string[]> {
  try {
    return await env.files.readdir(directory);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
