import { existsSync, readdirSync, statSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Pruned } from "@skep/api/schemas";
import { forget } from "./download.ts";
import { withLock } from "./lock.ts";
import { dropPackages } from "./packages.ts";
import { type ImagePaths, pullLock } from "./paths.ts";
import {
  directoryBytes,
  isAbandoned,
  readManifest,
  readRefs,
  removeImage,
  removeRef,
  storedDigests,
} from "./store.ts";

/** Says that somebody holds the lock of a download. */
const inProgress = Symbol("in progress");

/**
 * Removes each image that has no name and that nothing needs, with `all` those with a name too, and what
 * dead runs have left: staged images, build trees, partial downloads; and the packages kept for builds.
 */
export async function pruneImages(
  paths: ImagePaths,
  inUse: { has(digest: string): boolean },
  all = false,
): Promise<Pruned> {
  return await withLock(
    paths.locks,
    "prune",
    new AbortController().signal,
    () => {},
    async () => {
      const removed: string[] = [];
      let freedBytes =
        (await sweep(paths)) + (await dropPackages(paths.packages)) + (await dropPackages(paths.helpers));
      for (const digest of storedDigests(paths)) {
        const names = readRefs(paths).filter((ref) => ref.digest === digest);
        if ((names.length > 0 && !all) || inUse.has(digest)) continue;
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
async function sweep(paths: ImagePaths): Promise<number> {
  let freed = 0;
  for (const parent of [paths.images, paths.builds]) {
    for (const name of namesIn(parent).filter(isAbandoned)) {
      const directory = join(parent, name);
      freed += directoryBytes(directory);
      await rm(directory, { recursive: true, force: true });
    }
  }
  for (const name of namesIn(paths.downloads).filter((one) => one.endsWith(".part"))) {
    freed += await forgetIfIdle(paths, name);
  }
  return freed;
}

async function forgetIfIdle(paths: ImagePaths, name: string): Promise<number> {
  const held = () => {
    throw inProgress;
  };
  try {
    return await withLock(paths.locks, pullLock(name), new AbortController().signal, held, async () => {
      const path = join(paths.downloads, name);
      const bytes = (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
      await forget(path);
      return bytes;
    });
  } catch (error) {
    if (error === inProgress) return 0;
    throw error;
  }
}

function namesIn(directory: string): string[] {
  return existsSync(directory) ? readdirSync(directory) : [];
}
