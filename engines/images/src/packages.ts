import { link, mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { isErrno } from "@skep/base";
import { digestFile, type InstalledPackage } from "./manifest.ts";
import { debianArch } from "./mmdebstrap.ts";

// `<sha256 of the file>_<name as apt keeps it>`: apt itself looks only at the size of what it finds.
const keptPattern = /^([0-9a-f]{64})_([\w.+%~-]+_([a-z0-9]+)\.deb)$/;
const unusedAgeMs = 30 * 24 * 3600 * 1000;

/** Puts the kept packages of an architecture, each checked by its digest, where apt will look for them. */
export async function offerPackages(
  kept: string,
  arch: Arch,
  archives: string,
  signal: AbortSignal,
): Promise<void> {
  await mkdir(archives, { recursive: true });
  for (const file of await filesIn(kept)) {
    const [, hex, name = "", forArch = ""] = keptPattern.exec(file) ?? [];
    if (hex === undefined || ![debianArch[arch], "all"].includes(forArch)) continue;
    signal.throwIfAborted();
    try {
      await link(join(kept, file), join(archives, name));
      if ((await digestFile(join(archives, name), signal)) === `sha256:${hex}`) continue;
      await rm(join(archives, name));
      await rm(join(kept, file), { force: true });
    } catch (error) {
      // Pruned meanwhile, or kept twice under the same name: apt fetches what it misses.
      if (!isErrno(error, "ENOENT") && !isErrno(error, "EEXIST")) throw error;
    }
  }
}

/**
 * Keeps the packages that a finished build has used, for the next one. `archives` must be on the same
 * file system; its packages are moved away. What no build has used for a month is dropped.
 */
export async function keepPackages(
  kept: string,
  archives: string,
  installed: readonly InstalledPackage[],
  signal: AbortSignal,
): Promise<void> {
  await mkdir(kept, { recursive: true });
  const used = new Set(installed.map(archiveName));
  for (const file of await filesIn(archives)) {
    if (!used.has(file)) continue;
    const path = join(archives, file);
    const target = join(kept, `${(await digestFile(path, signal)).slice("sha256:".length)}_${file}`);
    const now = new Date();
    await utimes(path, now, now);
    await rename(path, target);
  }
  await dropPackages(kept, unusedAgeMs);
}

/** Removes the packages that no build has used for so long. Returns the bytes freed. */
export async function dropPackages(kept: string, ageMs = 0): Promise<number> {
  let freed = 0;
  for (const file of await filesIn(kept)) {
    const path = join(kept, file);
    const stats = await stat(path).catch(() => undefined); // another process may be at it
    if (stats === undefined || Date.now() - stats.mtimeMs < ageMs) continue;
    freed += stats.blocks * 512;
    await rm(path, { force: true });
  }
  return freed;
}

/** How apt calls the archive of a package in its cache: the epoch's colon is escaped. */
export function archiveName({ name, version, arch }: InstalledPackage): string {
  return `${name}_${version.replaceAll(":", "%3a")}_${arch}.deb`;
}

async function filesIn(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  }
}
