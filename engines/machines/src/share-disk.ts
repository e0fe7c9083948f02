import type { DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import { basesOf, type DiskLayers, finishFreezes, linkLayer } from "./layers.ts";
import type { Machine } from "./machine.ts";
import { refuseSuspended } from "./suspended.ts";

/** Turns a stopped machine's disk into a layer that it and a new machine stand on; null where it has none. */
export async function shareRootDisk(from: Machine): Promise<(DiskBase & { virtualBytes: number }) | null> {
  const { file } = from;
  refuseSuspended(from, "share the disk of");
  if (from.state !== "stopped") throw fail("BASE_NOT_STOPPED", { name: from.name });
  const root = file.volumes.find(({ role }) => role === "root");
  if (root !== undefined) throw fail("BASE_ON_VOLUME", { name: from.name, id: root.id });
  if (file.disk === null) return null;
  const { sizeBytes } = file.disk;
  const base = await linkDisk(from, from.paths.disk, file.disk.base);
  await from.save({ disk: { sizeBytes, base } });
  await finishFreezes(from);
  return { ...base, virtualBytes: sizeBytes };
}

/**
 * The disks of a machine that is stopped or suspended, at this instant, as layers that it and others stand on;
 * `machine.json` names them when this returns. Within a turn of the machine. LAYERS_DEEP.
 */
export async function freezeDisksAtRest(machine: Machine): Promise<DiskLayers> {
  const { context, file, paths } = machine;
  if (!machine.atRest) throw fail("BASE_NOT_STOPPED", { name: machine.name });
  // Not while layers are swept: a new one belongs to nobody until the machine's file names it.
  await context.locks.run("layers", async () => {
    await finishFreezes(machine); // of one that a crash cut off
    const disk = file.disk && {
      ...file.disk,
      base: await linkDisk(machine, paths.disk, file.disk.base),
    };
    const dataDisks: typeof file.dataDisks = [];
    for (const [index, { sizeBytes, base = null }] of file.dataDisks.entries()) {
      dataDisks.push({ sizeBytes, base: await linkDisk(machine, paths.dataDisk(index), base) });
    }
    await machine.save({ disk, dataDisks });
    await finishFreezes(machine);
  });
  const [disk = null, ...dataDisks] = basesOf(machine.file);
  return { disk, dataDisks };
}

async function linkDisk({ context, name }: Machine, path: string, base: DiskBase | null): Promise<DiskBase> {
  return await linkLayer(context.home, path, { base, from: name, createdAt: new Date().toISOString() });
}
