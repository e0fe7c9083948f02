import { lstat } from "node:fs/promises";
import { join } from "node:path";
import { SkepError, type Work } from "@skep/base";
import { baseChain, isCode, type Machine } from "@skep/machines";
import { checkState } from "./check.ts";
import { checkFits } from "./host-record.ts";
import { readManifest } from "./manifest.ts";
import { stateDirectory } from "./paths.ts";
import { failSnapshot } from "./snapshot-errors.ts";
import { layersOf, type SnapshotFile, type SnapshotMemory } from "./snapshot-file.ts";

const mebibyte = 1024 ** 2;

/** SNAPSHOT_DAMAGED where a snapshot is that of another machine. */
export function checkOwner({ name, file }: Machine, { name: snapshot, machine: then }: SnapshotFile): void {
  if (then.id === file.id) return;
  const why = `it is that of another machine (${then.id})`;
  throw failSnapshot("SNAPSHOT_DAMAGED", { snapshot, machine: name, why });
}

/** Every file that its disks would stand on. SNAPSHOT_DAMAGED. */
export async function checkLayers(machine: Machine, snapshot: SnapshotFile): Promise<void> {
  const { home } = machine.context;
  const refuse = (why: string, cause?: unknown) =>
    failSnapshot("SNAPSHOT_DAMAGED", { snapshot: snapshot.name, machine: machine.name, why }, { cause });
  for (const layer of layersOf(snapshot)) {
    const chain = await baseChain(home, layer).catch((error: Error) => {
      throw refuse(`what ${layer.path} stands on cannot be told: ${error.message}`, error);
    });
    for (const { path } of chain) {
      const found = await lstat(join(home, path)).catch(() => undefined);
      if (found === undefined) throw refuse(`${path} is missing`);
      if (!found.isFile()) throw refuse(`${path} is no regular file`);
    }
  }
}

/** That each volume still has its snapshot. SNAPSHOT_DAMAGED. */
export async function checkVolumes(
  { context, name }: Machine,
  { name: snapshot, volumes = [] }: SnapshotFile,
): Promise<void> {
  for (const one of volumes) {
    const there = await context.volumes.snapshotsOf(one.id).catch((error: unknown) => {
      if (isCode(error, "VOLUME_NOT_FOUND")) return undefined;
      throw error;
    });
    if (there?.includes(one.snapshot) === true) continue;
    const why =
      there === undefined ? `volume ${one.id} is gone` : `volume ${one.id} has no snapshot ${one.snapshot}`;
    throw failSnapshot("SNAPSHOT_DAMAGED", { snapshot, machine: name, why });
  }
}

/** All of its state, as it would be loaded. SNAPSHOT_MEMORY. */
export async function checkMemory(
  machine: Machine,
  { name, machine: then }: SnapshotFile,
  { state, digest }: SnapshotMemory,
  work: Work,
): Promise<void> {
  const refuse = (why: string, cause?: unknown) =>
    failSnapshot("SNAPSHOT_MEMORY", { snapshot: name, machine: machine.name, why }, { cause });
  const directory = stateDirectory(machine.context.home, state);
  try {
    const { manifest, digest: found } = await readManifest(directory);
    if (found !== digest) throw refuse(`manifest.json of state ${state} has another digest`);
    if (manifest.machine.id !== then.id || manifest.memory.bytes !== then.memoryMiB * mebibyte) {
      throw refuse(`state ${state} is that of another machine`);
    }
    const { version } = await machine.context.programs.get(machine.file.arch);
    checkFits(machine, manifest, { qemu: version, arch: machine.file.arch });
    const onProgress = (done: number, total: number) =>
      work.report({ phase: `checking the memory of snapshot ${name}`, done, total, unit: "bytes" });
    const [damage] = await checkState(directory, { signal: work.signal, onProgress });
    if (damage !== undefined) throw refuse(`state ${state}: ${damage.object}: ${damage.why}`);
  } catch (error) {
    if (!(error instanceof SkepError) || !error.code.startsWith("STATE_")) throw error;
    throw refuse(error.message, error);
  }
}
