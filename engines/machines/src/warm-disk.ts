import { chmod, rename, rm, stat, truncate } from "node:fs/promises";
import { syncDirectory } from "@skep/base";
import { createDisk, type DiskBase } from "./disk.ts";
import { copyOverlay } from "./layers.ts";
import type { Machine } from "./machine.ts";

/**
 * The disk of a machine whose first start goes on from a template, within a turn of the machine. Nothing was ever
 * written to it, so that it is put in place anew instead of being kept: while the machine's file says `warming`,
 * what is on its disk counts for nothing, and a crash at any point makes it the machine that was never started.
 */

/** Puts its disk on that of a template; `base` is null where it has none. Hold the layer until then (`holdLayers`). */
export async function beginWarm(machine: Machine, base: DiskBase | null): Promise<void> {
  const { disk } = machine.file;
  await machine.save({
    fresh: undefined,
    warming: { base: disk?.base ?? null },
    disk: disk && { ...disk, base },
  });
  if (disk === null || base === null) return;
  const { home } = machine.context;
  const { sizeBytes } = disk;
  await replaceDisk(machine, (path) =>
    copyOverlay(path, { home, layer: base, sizeBytes, uid: machine.file.uid }),
  );
}

/** From now on it is a machine that was started. */
export async function finishWarm(machine: Machine): Promise<void> {
  await machine.save({ warming: undefined });
}

/** Makes it what it was before, once it has no QEMU. Nothing happens where no first start is under way. */
export async function undoWarm(machine: Machine): Promise<void> {
  const { context, file, paths } = machine;
  const { warming, disk, uid } = file;
  if (warming === undefined) return;
  const { base } = warming;
  if (disk !== null) {
    const { sizeBytes } = disk;
    await replaceDisk(machine, (path) => createDisk(path, { home: context.home, sizeBytes, base, uid }));
  }
  for (const path of [paths.run, paths.knownHosts]) await rm(path, { force: true });
  machine.run = undefined;
  machine.reason = null;
  await machine.save({ warming: undefined, fresh: true, disk: disk && { ...disk, base } });
}

async function replaceDisk({ paths }: Machine, make: (path: string) => Promise<void>): Promise<void> {
  const made = `${paths.disk}.new`;
  await rm(made, { force: true });
  await make(made);
  await rename(made, paths.disk);
  await syncDirectory(paths.directory);
}

/** Adds zeros, which take no room, up to a size; also to a file that nobody is to write. */
export async function enlarge(path: string, bytes: number): Promise<void> {
  const { size, mode } = await stat(path);
  if (size >= bytes) return;
  await chmod(path, 0o600);
  await truncate(path, bytes);
  await chmod(path, mode & 0o777);
}
