import { quietWork, type Work } from "@skep/base";
import { finishReverts, type Machine, sweepUnusedLayers } from "@skep/machines";
import {
  readSnapshot,
  readSnapshots,
  removeSnapshotFiles,
  type SnapshotFile,
  writeSnapshot,
} from "./snapshot-file.ts";
import { releaseState } from "./snapshot-uses.ts";
import { dropVolumes, namesOf, newIntent, writeIntent } from "./snapshot-volumes.ts";
import type { Reach } from "./standstill.ts";

/**
 * Removes a snapshot, within a turn of its machine. Those that were made after it stay as they are and hang on
 * the one before; what they share with it on disk stays. A damaged one goes, too. SNAPSHOT_NOT_FOUND.
 */
export async function removeSnapshot(
  machine: Machine,
  name: string,
  { reach = () => {}, work = quietWork() }: { reach?: Reach; work?: Work } = {},
): Promise<void> {
  const { paths, context } = machine;
  const { directory } = paths;
  const snapshot = await readOrDamaged(machine, name);
  const volumes = namesOf(snapshot?.volumes ?? []);
  const isWanted = ({ snapshot: id }: { snapshot: string }) => volumes.some((one) => one.snapshot === id);
  if (machine.file.reverting?.some(isWanted)) await finishReverts(machine, work.signal);
  const parent = snapshot?.parent ?? null;
  const { snapshots } = await readSnapshots(machine.name, directory);
  for (const child of snapshots.filter((one) => one.parent === name)) {
    await writeSnapshot(directory, { ...child, parent });
  }
  if (machine.file.snapshot === name) await machine.save({ snapshot: parent ?? undefined });
  await reach("moved");
  const intent = newIntent(name);
  if (volumes.length > 0) await writeIntent(machine, intent, volumes);
  await removeSnapshotFiles(directory, name);
  await reach("removed");
  if (snapshot?.memory != null) await releaseState(machine, snapshot.memory.state);
  for (const needed of await dropVolumes(machine, intent, volumes)) {
    work.note(`kept: snapshot ${needed.snapshot} of ${needed.volume}, for it has clones`);
  }
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
}

async function readOrDamaged(machine: Machine, name: string): Promise<SnapshotFile | undefined> {
  try {
    return await readSnapshot(machine.name, machine.paths.directory, name);
  } catch (error) {
    if ((error as { code?: string }).code !== "SNAPSHOT_DAMAGED") throw error;
    return undefined;
  }
}
