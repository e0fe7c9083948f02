import { existsSync, readdirSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Pruned } from "@skep/api/schemas";
import { withLock } from "./lock.ts";
import type { ImagePaths } from "./paths.ts";
import {
  directoryBytes,
  isAbandoned,
  readManifest,
  readRefs,
  removeImage,
  removeRef,
  storedDigests,
} from "./store.ts";

const partialAgeMs = 24 * 3600 * 1000;

/**
 * Removes every image that nothing needs, whatever its name, and what dead runs have left: staged images,
 * build trees, and downloads that nobody took up again within a day.
 */
export async function pruneImages(
  paths: ImagePaths,
  inUse: { has(digest: string): boolean },
): Promise<Pruned> {
  return await withLock(
    paths.locks,
    "prune",
    new AbortController().signal,
    () => {},
    async () => {
      const removed: string[] = [];
      let freedBytes = await sweep(paths);
      const refs = readRefs(paths);
      for (const digest of storedDigests(paths)) {
        if (inUse.has(digest)) continue;
        const names = refs.filter((ref) => ref.digest === digest);
        for (const ref of names) await removeRef(paths, ref.arch, ref.name);
        removed.push(
          names[0]?.name ?? `${readManifest(paths, digest)?.name ?? "image"}@${digest.slice(0, 19)}`,
        );
        freedBytes += await removeImage(paths, digest);
      }
      return { removed, freedBytes };
    },
  );
}

/** Takes away what processes that are gone have left. Returns the bytes freed. */
export async function sweep(paths: ImagePaths): Promise<number> {
  let freed = 0;
  for (const parent of [paths.images, paths.builds]) {
    for (const name of namesIn(parent).filter(isAbandoned)) {
      const directory = join(parent, name);
      freed += directoryBytes(directory);
      await rm(directory, { recursive: true, force: true });
    }
  }
  for (const name of namesIn(paths.downloads)) {
    const path = join(paths.downloads, name);
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || Date.now() - stats.mtimeMs < partialAgeMs) continue;
    freed += stats.blocks * 512;
    await rm(path, { force: true });
  }
  return freed;
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
