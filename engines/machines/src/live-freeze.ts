import { randomBytes } from "node:crypto";
import { link, rename, rm } from "node:fs/promises";
import { syncDirectory } from "@skep/base";
import type { DiskBase } from "./disk.ts";
import { diskDevice, diskName, diskNode } from "./disk-node.ts";
import {
  copyOverlay,
  type DiskLayers,
  finishFreeze,
  linkLayer,
  newLayer,
  sealLayer,
  unlinkLayer,
} from "./layers.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import { deleteNode } from "./plug.ts";
import { waitGone } from "./process.ts";

/**
 * Freezes the disks under a running guest: what they hold becomes layers, and the guest goes on in empty overlays.
 *
 * 1. `prepareDiskFreeze`, while the guest runs: `run.json` tells what is to be; each disk's file gets a second name
 *    among the layers; QEMU opens the overlays, which nothing uses yet.
 * 2. The caller stops the guest.
 * 3. `commitDiskFreeze`: one transaction puts all overlays in place, `machine.json` names the layers, and the overlays
 *    take the disks' names.
 * 4. The caller has the guest go on.
 *
 * The guest stands still from before the transaction until all is durable, so that an overlay is empty as long as
 * any step is missing. Whatever dies on the way, `settleDiskFreeze` undoes it, or finishes it where QEMU has the
 * overlays in place, or `machine.json` names the layers. Until the transaction each disk is as it always was.
 */

/** In `run.json`, from before QEMU is touched until all is done. */
export interface FreezingDisk {
  /** Of a data disk; null for the disk that the machine boots from. */
  index: number | null;
  sizeBytes: number;
  /** QEMU's name of what it writes to now. */
  under: string;
  /** Its name of the overlay, which is also that of the overlay's file. */
  node: string;
  layer: DiskBase;
}

export interface DiskFreeze {
  disks: FreezingDisk[];
  /** What the disks will be when it is committed. */
  layers: DiskLayers;
}

/** A flush may wait for a slow disk. */
const answerLimitMs = 60_000;
/** How long a QEMU that does not answer any more may take to be seen gone. */
const deathLimitMs = 5000;

/**
 * First part, while the guest runs; on failure all is as it was. Within a turn of the machine, as all of this.
 * LAYERS_DEEP.
 */
export async function prepareDiskFreeze(live: LiveMachine, signal?: AbortSignal): Promise<DiskFreeze> {
  const { machine } = live;
  await settleDiskFreeze(machine);
  const disks = await plan(live);
  // A sweep of layers that is under way does not know them; each later one does.
  await machine.context.locks.run("layers", () => machine.saveRun(() => ({ freezing: disks })));
  try {
    for (const disk of disks) await prepareDisk(live, disk, signal);
    signal?.throwIfAborted();
  } catch (error) {
    await settleDiskFreeze(machine);
    throw error;
  }
  const layerOf = (index: number | null) => disks.find((disk) => disk.index === index)?.layer ?? null;
  const dataDisks = machine.file.dataDisks.map((_, index) => layerOf(index));
  return { disks, layers: { disk: layerOf(null), dataDisks } };
}

async function plan({ machine, qmp }: LiveMachine): Promise<FreezingDisk[]> {
  const { disk, dataDisks } = machine.file;
  const own = dataDisks.map(({ sizeBytes }, index): { index: number | null; sizeBytes: number } => ({
    index,
    sizeBytes,
  }));
  if (disk !== null) own.unshift({ index: null, sizeBytes: disk.sizeBytes });
  const blocks = await qmp.execute("query-block", {}, { timeoutMs: answerLimitMs });
  const mark = randomBytes(4).toString("hex");
  return own.map(({ index, sizeBytes }) => {
    const device = blocks.find(({ qdev }) => qdev?.split("/").includes(diskDevice(index)));
    const under = device?.inserted?.["node-name"];
    if (under === undefined) throw new Error(`QEMU has no device ${diskDevice(index)}`);
    return { index, sizeBytes, under, node: `${diskName(index)}-${mark}`, layer: newLayer() };
  });
}

async function prepareDisk(
  { machine, qmp }: LiveMachine,
  { index, sizeBytes, node, layer }: FreezingDisk,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { file, paths, context } = machine;
  const { home } = context;
  const createdAt = new Date().toISOString();
  await linkLayer(
    home,
    diskPath(machine, index),
    { base: baseOf(machine, index), from: file.name, createdAt },
    layer,
  );
  const path = paths.liveDisk(node);
  // Copies of this instant find theirs made.
  await copyOverlay(path, { home, sizeBytes, layer, uid: file.uid, signal });
  // Without a base for now: QEMU has it open already, and puts the overlay on top of it.
  await qmp.execute("blockdev-add", diskNode(node, path, null), { timeoutMs: answerLimitMs });
}

/**
 * Second part, of a guest that stands still; afterwards it may go on. Where it fails call `abandonDiskFreeze` before
 * the guest does.
 */
export async function commitDiskFreeze(live: LiveMachine, { disks }: DiskFreeze): Promise<void> {
  const actions = disks.map(({ under, node }) => ({
    type: "blockdev-snapshot" as const,
    data: { node: under, overlay: node },
  }));
  if (actions.length > 0) await live.qmp.execute("transaction", { actions }, { timeoutMs: answerLimitMs });
  await finish(live.machine, disks);
}

/** After a failure, before the guest goes on: undoes the first part, or finishes the second where it was begun. */
export async function abandonDiskFreeze(live: LiveMachine): Promise<void> {
  try {
    await settleDiskFreeze(live.machine);
  } catch (error) {
    if (!(await waitGone(live.process, deathLimitMs))) throw error;
    await live.gone;
    await settleDiskFreeze(live.machine);
  }
}

/**
 * Brings in order what a freeze left half done, whoever has died meanwhile. A guest that runs must not have been told
 * to go on by anybody since.
 */
export async function settleDiskFreeze(machine: Machine): Promise<void> {
  const disks = machine.run?.freezing ?? null;
  if (disks === null) return;
  const { live } = machine;
  if (live !== undefined && (await overlaysInPlace(live, disks))) return await finish(machine, disks);
  for (const disk of disks) {
    if (baseOf(machine, disk.index)?.path === disk.layer.path) await standOnLayer(machine, disk);
    else await takeBack(machine, disk);
  }
  await over(machine);
}

async function overlaysInPlace({ qmp }: LiveMachine, disks: readonly FreezingDisk[]): Promise<boolean> {
  const blocks = await qmp.execute("query-block", {}, { timeoutMs: answerLimitMs });
  const inPlace = new Set(blocks.map(({ inserted }) => inserted?.["node-name"]));
  return disks.some(({ node }) => inPlace.has(node)); // by one transaction: one is all
}

/** QEMU has the overlays in place. Each step may be repeated. */
async function finish(machine: Machine, disks: readonly FreezingDisk[]): Promise<void> {
  const layerOf = (at: number | null) => disks.find(({ index }) => index === at)?.layer;
  await machine.save(({ disk, dataDisks }) => ({
    disk: disk === null ? null : { ...disk, base: layerOf(null) ?? disk.base },
    dataDisks: dataDisks.map((data, index) => ({ ...data, base: layerOf(index) ?? data.base ?? null })),
  }));
  const { paths, context } = machine;
  for (const { index, node } of disks) {
    // It keeps its first name, too: by that QEMU opens it anew, when the next freeze makes it a layer.
    const path = diskPath(machine, index);
    const beside = `${path}.new`;
    await rm(beside, { force: true });
    await link(paths.liveDisk(node), beside);
    await rename(beside, path);
    await rm(beside, { force: true }); // rename does nothing where both are one file already
  }
  // A guest that goes on is told of each flush that it is durable.
  await syncDirectory(paths.directory);
  for (const { layer } of disks) await sealLayer(context.home, layer);
  await over(machine);
}

/** QEMU is gone, and `machine.json` names the layer: the overlay was empty, and may be another one. */
async function standOnLayer(
  machine: Machine,
  { index, sizeBytes, layer: base }: FreezingDisk,
): Promise<void> {
  const { context, file } = machine;
  const { home } = context;
  await finishFreeze({ home, disk: diskPath(machine, index), sizeBytes, base, uid: file.uid });
  await sealLayer(home, base);
}

async function takeBack({ live, context, paths }: Machine, { node, layer }: FreezingDisk): Promise<void> {
  if (live !== undefined) await deleteNode(live, node);
  await rm(paths.liveDisk(node), { force: true });
  await unlinkLayer(context.home, layer);
}

async function over(machine: Machine): Promise<void> {
  await machine.saveRun(() => ({ freezing: null }));
}

function diskPath({ paths }: Machine, index: number | null): string {
  return index === null ? paths.disk : paths.dataDisk(index);
}

function baseOf({ file }: Machine, index: number | null): DiskBase | null {
  const disk = index === null ? file.disk : file.dataDisks[index];
  return disk?.base ?? null;
}
