import { open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { syncDirectory, syncFile } from "@skep/base";
import { fail } from "./errors.ts";
import { readIsoFiles } from "./iso-codec.ts";
import type { Machine } from "./machine.ts";
import { machineIdOf } from "./machine-file.ts";
import { seedDraft, writeIso } from "./seed.ts";

/** A user-data of 16 MiB is more than cloud-init takes. */
const largestSeed = 32 * 1024 ** 2;

/**
 * Gives a copy a seed of its own: its id as cloud-init's instance, its name, and else what its source had. Written
 * into the same file, which a QEMU that runs has open: a guest that reboots finds it there. Starting the machine does
 * it, where it has not been done. SEED_INVALID.
 */
export async function writeForkSeed(machine: Machine, signal?: AbortSignal): Promise<void> {
  const { file, paths } = machine;
  if (file.seedOfSource !== true) return;
  if (file.seeded) {
    // Whole and durable first: half written, neither seed could be read again.
    const made = `${paths.seed}.new`;
    await removeDrafts(paths.directory);
    if (!(await isSeedOf(file.id, made))) {
      await writeIso(made, forkSeed(await readSeed(machine), file), signal);
      await syncFile(made);
      await syncDirectory(paths.directory);
    }
    await overwrite(paths.seed, await readFile(made));
    await machine.save({ seedOfSource: false });
    await rm(made, { force: true });
  } else await machine.save({ seedOfSource: false });
}

/** Of a process that was killed while it made one. */
async function removeDrafts(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (name.startsWith(seedDraft)) await rm(join(directory, name), { recursive: true, force: true });
  }
}

/** Whether it is one that an earlier try has made; what it had not finished does not count. */
async function isSeedOf(id: string, path: string): Promise<boolean> {
  try {
    const metaData = readIsoFiles(await readFile(path)).get("meta-data");
    return (metaDataOf(metaData) as { "instance-id"?: unknown })["instance-id"] === id;
  } catch {
    await rm(path, { force: true });
    return false;
  }
}

/** In place: the content of the longer of both is padding at its end. */
async function overwrite(path: string, bytes: Buffer): Promise<void> {
  const seed = await open(path, "r+");
  try {
    await seed.write(bytes, 0, bytes.length, 0);
    await seed.datasync();
  } finally {
    await seed.close();
  }
}

async function readSeed({ name, paths }: Machine): Promise<Map<string, Buffer>> {
  try {
    const { size } = await stat(paths.seed);
    if (size > largestSeed) throw new Error(`it has ${size} bytes`);
    return readIsoFiles(await readFile(paths.seed));
  } catch (error) {
    const what = `the seed of the machine that ${name} was forked from`;
    const hint = `give ${name} user-data anew: make it from an image with skep new`;
    throw fail("SEED_INVALID", { what, why: (error as Error).message, hint }, { cause: error });
  }
}

/** @internal For its tests. */
export function forkSeed(
  files: ReadonlyMap<string, Buffer>,
  { id, name }: { id: string; name: string },
): Record<string, Buffer> {
  const own = { "instance-id": id, "local-hostname": name };
  const metaData = { ...metaDataOf(files.get("meta-data")), ...own };
  const vendorData = files.get("vendor-data")?.toString("utf8") ?? "";
  const given = ["user-data", "network-config"].flatMap((file) => {
    const bytes = files.get(file);
    return bytes === undefined ? [] : [[file, bytes] as const];
  });
  return {
    ...Object.fromEntries(given),
    "meta-data": Buffer.from(`${JSON.stringify(metaData, null, 2)}\n`),
    // The script in it that sets a copy's machine-id (seed.ts).
    "vendor-data": Buffer.from(
      vendorData.replace(
        /^grep -qx [0-9a-f]{32} (\/etc\/machine-id \|\| echo) [0-9a-f]{32} /m,
        `grep -qx ${machineIdOf(id)} $1 ${machineIdOf(id)} `,
      ),
    ),
  };
}

function metaDataOf(bytes: Buffer | undefined): object {
  try {
    const value: unknown = JSON.parse(bytes?.toString("utf8") ?? "{}");
    return typeof value === "object" && value !== null ? value : {};
  } catch {
    return {}; // the guest's doing: its keys are there, in the guest
  }
}
