import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { MachineSnapshot } from "@skep/api/schemas";
import { stateDirectory, statePaths } from "./paths.ts";
import { type DamagedSnapshot, layersOf, readSnapshots, type SnapshotFile } from "./snapshot-file.ts";

/** As much of a machine as its snapshots are shown with. */
export interface Owner {
  home: string;
  name: string;
  /** The machine's. */
  directory: string;
  /** The snapshot that its disks go on from. */
  current: string | null;
}

/** All snapshots of a machine, oldest first; those that cannot be read last. */
export async function viewSnapshots(owner: Owner): Promise<MachineSnapshot[]> {
  const { snapshots, damaged } = await readSnapshots(owner.name, owner.directory);
  const views = await Promise.all(snapshots.map((snapshot) => viewSnapshot(owner, snapshot)));
  return [...views, ...damaged.map((one) => viewDamaged(owner, one))];
}

export async function viewSnapshot(owner: Owner, snapshot: SnapshotFile): Promise<MachineSnapshot> {
  const { name, createdAt, state, memory, machine, fileSystemsFrozen, pauseMs, parent } = snapshot;
  const disks = [...(machine.disk === null ? [] : [machine.disk]), ...machine.dataDisks];
  const sizes = await Promise.all(layersOf(snapshot).map(({ path }) => allocated(join(owner.home, path))));
  const lost = layersOf(snapshot).find((_, index) => sizes[index] === undefined);
  const missing =
    memory === null
      ? undefined
      : await missingState(owner.home, memory.state).then((one) => one ?? undefined);
  const layers = sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  return {
    name,
    machine: owner.name,
    createdAt,
    state,
    memory:
      memory === null
        ? null
        : { state: memory.state, populatedMiB: memory.populatedMiB, storedBytes: memory.storedBytes },
    disks: disks.map(({ sizeBytes, base }) => ({ sizeBytes, layer: base?.path ?? null })),
    volumes: (snapshot.volumes ?? []).map(({ id, sizeBytes, snapshot: one }) => {
      return { id, sizeBytes, snapshot: one };
    }),
    storedBytes: layers + (memory?.storedBytes ?? 0),
    fileSystemsFrozen,
    pauseMs,
    parent,
    current: owner.current === name,
    problem: lost !== undefined ? `${lost.path} is missing` : (missing ?? null),
  };
}

function viewDamaged(owner: Owner, { name, why, createdAt }: DamagedSnapshot): MachineSnapshot {
  return {
    name,
    machine: owner.name,
    createdAt,
    state: "stopped",
    memory: null,
    disks: [],
    volumes: [],
    storedBytes: 0,
    fileSystemsFrozen: null,
    pauseMs: null,
    parent: null,
    current: owner.current === name,
    problem: why,
  };
}

async function allocated(path: string): Promise<number | undefined> {
  return await stat(path).then(
    ({ blocks }) => blocks * 512,
    () => undefined,
  );
}

async function missingState(home: string, id: string): Promise<string | undefined> {
  const { manifest } = statePaths(stateDirectory(home, id));
  return (await allocated(manifest)) === undefined ? `state ${id} is missing` : undefined;
}
