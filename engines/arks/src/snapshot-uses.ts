import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "@skep/base";
import type { Machine } from "@skep/machines";
import { removeState } from "./commit.ts";
import { dropKept } from "./kept.ts";
import { layersOf, readSnapshots } from "./snapshot-file.ts";

/** What the snapshots of all machines of a home hold on to. */
export interface SnapshotUses {
  layers: { path: string; format: "qcow2" }[];
  /** Ids. */
  states: Set<string>;
  /** Records that cannot be read: what these hold on to is not known, so nothing may be swept. */
  damaged: string[];
}

export async function snapshotUses(home: string): Promise<SnapshotUses> {
  const uses: SnapshotUses = { layers: [], states: new Set(), damaged: [] };
  const machines = join(home, "machines");
  const names = await readdir(machines).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  });
  for (const name of names.filter((one) => !one.startsWith("."))) {
    const { snapshots, damaged } = await readSnapshots(name, join(machines, name));
    for (const snapshot of snapshots) {
      uses.layers.push(...layersOf(snapshot));
      if (snapshot.memory !== null) uses.states.add(snapshot.memory.state);
    }
    uses.damaged.push(...damaged.map((one) => `${name}/${one.name}`));
  }
  return uses;
}

/** For the sweep of layers. Fails where what is held cannot be told. */
export async function layersOfSnapshots(home: string): Promise<SnapshotUses["layers"]> {
  const { layers, damaged } = await snapshotUses(home);
  if (damaged.length > 0) throw new Error(`snapshots cannot be read: ${damaged.join(", ")}`);
  return layers;
}

/** Of one machine, as far as its records can be read. */
export async function statesOfSnapshots(home: string, machine: string): Promise<string[]> {
  const { snapshots } = await readSnapshots(machine, join(home, "machines", machine));
  return snapshots.flatMap(({ memory }) => memory?.state ?? []);
}

/** Removes a state that a machine no longer sleeps on, unless a snapshot of it names it. */
export async function releaseState(machine: Machine, state: string): Promise<void> {
  const { file, context, name, paths } = machine;
  if (file.suspended?.state === state) return;
  // Even where the state stays: it is for the machine that sleeps on it.
  await dropKept(context.home, state).catch((error: unknown) =>
    context.log.warn({ machine: name, state, err: error }, "cannot let go of memory that was kept"),
  );
  const { snapshots, damaged } = await readSnapshots(name, paths.directory);
  if (damaged.length > 0 || snapshots.some(({ memory }) => memory?.state === state)) return;
  await removeState(context.home, state).catch((error: unknown) =>
    context.log.warn({ machine: name, state, err: error }, "cannot remove the state"),
  );
}
