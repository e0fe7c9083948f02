import { randomUUID } from "node:crypto";
import { chmod, chown, copyFile, link, readdir, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  ensureDirectory,
  exists,
  readVersionedJson,
  syncDirectory,
  syncFile,
  writeVersionedJson,
} from "@skep/base";
import { createDisk, type DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import { giveTo, isRoot } from "./host-user.ts";
import type { Machine } from "./machine.ts";
import { homePaths } from "./paths.ts";

/** A machine's former disk, frozen because other disks are overlays of it. */
export interface Layer {
  version: 1;
  base: DiskBase | null;
  from: string;
  createdAt: string;
}

/** A machine's disks at one instant, for others to stand on. Null: it has no such disk. */
export interface DiskLayers {
  disk: DiskBase | null;
  dataDisks: (DiskBase | null)[];
}

/**
 * Each layer is a file that QEMU opens, one within the other, and looks through for what a guest never wrote. More
 * are refused; QEMU itself would give up somewhere in the hundreds.
 */
const mostLayers = 128;

/** The name that a new layer will have. */
export function newLayer(): DiskBase {
  return { path: `layers/${randomUUID()}.qcow2`, format: "qcow2" };
}

/**
 * First half of sharing a disk: gives the file a second name among the layers, and a record of what it stands
 * on. The caller then writes the layer into `machine.json` as what the disk stands on, and calls `finishFreeze`.
 * LAYERS_DEEP.
 */
export async function linkLayer(
  home: string,
  disk: string,
  record: Omit<Layer, "version">,
  layer: DiskBase = newLayer(),
): Promise<DiskBase> {
  const chain = await baseChain(home, record.base);
  if (chain.length >= mostLayers) throw fail("LAYERS_DEEP", { name: record.from, layers: mostLayers });
  const { layers } = homePaths(home);
  await ensureDirectory(layers, 0o711);
  const path = join(home, layer.path);
  await writeVersionedJson<Layer>(recordPath(path), { version: 1, ...record });
  await link(disk, path);
  await syncDirectory(layers);
  return layer;
}

/** Takes a layer's name away again that nothing stands on; the disk it was linked from is as it was. */
export async function unlinkLayer(home: string, { path }: DiskBase): Promise<void> {
  await removeFiles(home, (layer) => layer === path);
}

/** Of layers that `isGone` says so of, by path: their files, records, and the empty overlays beside them. */
async function removeFiles(home: string, isGone: (layer: string) => boolean): Promise<void> {
  const { layers } = homePaths(home);
  for (const name of await readdir(layers).catch(() => [])) {
    if (isGone(`layers/${name.split(".", 1)[0]}.qcow2`)) await rm(join(layers, name), { force: true });
  }
}

function recordPath(layer: string): string {
  return layer.replace(/\.qcow2$/, ".json");
}

/**
 * Second half: replaces the disk by an overlay of the layer. Repeated after a crash, for then disk
 * and layer are still one file; does nothing where they are not.
 */
export async function finishFreeze(options: {
  home: string;
  disk: string;
  sizeBytes: number;
  base: DiskBase;
  uid: number | null;
}): Promise<void> {
  const { home, disk, base } = options;
  if (!(await isOneFile(disk, join(home, base.path)))) return;
  const overlay = `${disk}.new`;
  await rm(overlay, { force: true });
  await createDisk(overlay, options);
  await sealLayer(home, base);
  await rename(overlay, disk);
  await syncDirectory(dirname(disk));
}

/** The same for all disks of a machine without QEMU. */
export async function finishFreezes({ context, file, paths }: Machine): Promise<void> {
  const { home } = context;
  const disks = [
    { disk: paths.disk, sizeBytes: 0, base: null, ...file.disk },
    ...file.dataDisks.map((data, index) => ({ disk: paths.dataDisk(index), base: null, ...data })),
  ];
  for (const { disk, sizeBytes, base } of disks) {
    if (base !== null && base !== undefined && isLayer(base)) {
      await finishFreeze({ home, disk, sizeBytes, base, uid: file.uid });
    }
  }
}

/** Whether two paths name one file. */
async function isOneFile(one: string, other: string): Promise<boolean> {
  const [here, there] = await Promise.all([stat(one), stat(other)]);
  return here.ino === there.ino && here.dev === there.dev;
}

/** No QEMU writes it any more, and those of all machines may read it. */
export async function sealLayer(home: string, layer: DiskBase): Promise<void> {
  const path = join(home, layer.path);
  if (isRoot) await chown(path, 0, 0);
  await chmod(path, 0o444);
}

/**
 * An empty overlay of a layer at `path`. It is a copy of one that is kept beside the layer: starting a program for
 * each of a dozen disks takes longer than all else about them.
 */
export async function copyOverlay(
  path: string,
  options: { home: string; layer: DiskBase; sizeBytes: number; uid: number | null; signal?: AbortSignal },
): Promise<void> {
  const { home, layer, sizeBytes, uid, signal } = options;
  const kept = join(home, layer.path).replace(/\.qcow2$/, `.${sizeBytes}.empty`);
  if (!(await exists(kept))) {
    const making = `${kept}-${randomUUID()}`;
    await createDisk(making, { home, sizeBytes, base: layer, uid: null, signal });
    await rename(making, kept);
  }
  await copyFile(kept, path);
  await giveTo(uid, path, 0o600);
  await syncFile(path);
}

export const isLayer = ({ path }: DiskBase): boolean => path.startsWith("layers/");

/** The bases of a disk, nearest first, by following the layers' records. */
export async function baseChain(home: string, base: DiskBase | null): Promise<DiskBase[]> {
  const chain: DiskBase[] = [];
  for (let next = base; next !== null; ) {
    chain.push(next);
    if (!isLayer(next)) break;
    if (chain.length > 10 * mostLayers) throw new Error(`the layers below ${base?.path} go in a circle`);
    next = (await readVersionedJson<Layer>(recordPath(join(home, next.path)), 1)).base;
  }
  return chain;
}

/**
 * Removes layers that no disk in `bases` stands on any more, and the overlays kept beside them. `making`: those that a
 * disk is about to become; what that stands on is among the bases.
 */
export async function sweepLayers(
  home: string,
  bases: readonly (DiskBase | null)[],
  making: readonly DiskBase[] = [],
): Promise<void> {
  const used = new Set(making.map(({ path }) => path));
  for (const base of bases) for (const step of await baseChain(home, base)) used.add(step.path);
  await removeFiles(home, (layer) => !used.has(layer));
}

/** What the disks of a machine, or of a record of one, stand on. */
export function basesOf(disks: {
  disk: { base: DiskBase | null } | null;
  dataDisks: readonly { base?: DiskBase | null }[];
}): (DiskBase | null)[] {
  return [disks.disk?.base ?? null, ...disks.dataDisks.map(({ base }) => base ?? null)];
}
