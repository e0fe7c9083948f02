import { join } from "node:path";
import { run, syncFile, type Work } from "@skep/base";
import type { DiskBase } from "./disk.ts";
import { baseChain, isLayer } from "./layers.ts";
import type { Machine } from "./machine.ts";

/** Each fork and snapshot of a running machine adds one. */
const longChain = 32;
/** Those at the bottom stay: what is large is there, and what is joined later need not be copied again. */
const keptLayers = 8;

/**
 * Before a boot: has disks that stand on many layers stand on few. What the upper ones hold is copied into the disk;
 * others that stand on them are not concerned. Cut off anywhere the disk reads as before, and a failure changes
 * nothing but that it still stands on many.
 */
export async function joinLayers(machine: Machine, work: Work): Promise<void> {
  const { file, paths, context, name } = machine;
  try {
    if (file.disk !== null) {
      const base = await joined(machine, paths.disk, file.disk.base, work);
      if (base !== undefined)
        await machine.save(({ disk }) => ({ disk: disk === null ? null : { ...disk, base } }));
    }
    for (const [at, data] of file.dataDisks.entries()) {
      const base = await joined(machine, paths.dataDisk(at), data.base ?? null, work);
      if (base === undefined) continue;
      await machine.save(({ dataDisks }) => ({
        dataDisks: dataDisks.map((one, index) => (index === at ? { ...one, base } : one)),
      }));
    }
  } catch (error) {
    work.signal.throwIfAborted();
    context.log.warn({ machine: name, err: error }, "cannot join the layers of its disk");
  }
}

/** What the disk stands on now; undefined where it is as it was. */
async function joined(
  { context: { home }, file: { uid }, name }: Machine,
  disk: string,
  base: DiskBase | null,
  { signal, report }: Work,
): Promise<DiskBase | undefined> {
  const layers = (await baseChain(home, base)).filter(isLayer);
  const target = layers.at(-keptLayers);
  if (layers.length <= longChain || target === undefined) return undefined;
  report({ phase: `joining layers of ${name}'s disk` });
  const args = ["rebase", "-f", "qcow2", "-F", target.format, "-b", join(home, target.path), disk];
  // As the machine's own user: a disk's header is the guest's word.
  await run("qemu-img", args, { signal, cwd: "/", ...(uid === null ? {} : { uid, gid: uid }) });
  await syncFile(disk);
  return target;
}
