import { admitForks, holdLayers, type Machine } from "@skep/machines";
import { failFork } from "./fork-errors.ts";
import type { SourceOptions, TakenSource } from "./fork-source.ts";
import { frozenFromState } from "./frozen-state.ts";
import { checkLayers, checkOwner, checkVolumes } from "./snapshot-check.ts";
import { readSnapshot, snapshotPaths } from "./snapshot-file.ts";

/**
 * A machine as a snapshot has it, within a turn of the machine, which may be doing anything meanwhile. FORK_REFUSED,
 * SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED, MEMORY_SHORT_COPIES, and what reading a state can fail with.
 */
export async function takeSnapshotSource(
  machine: Machine,
  name: string,
  { frozen: all, count, force, work }: SourceOptions,
): Promise<TakenSource> {
  const { context, paths } = machine;
  const snapshot = await readSnapshot(machine.name, paths.directory, name);
  checkOwner(machine, snapshot);
  const refuse = (why: string, hint: string) =>
    failFork("FORK_REFUSED", { machine: machine.name, why, hint });
  if (process.platform !== "linux") {
    throw refuse(
      "memory is in no file on this system",
      `copy its disk: skep new COPY --from ${machine.name}`,
    );
  }
  const { memory, volumes = [] } = snapshot;
  if (memory === null) {
    const hint = `set the machine back to it, start it, and fork that: skep snapshot restore ${machine.name} ${name}`;
    throw refuse(`snapshot "${name}" has no memory that copies could go on with`, hint);
  }
  await checkLayers(machine, snapshot);
  await checkVolumes(machine, snapshot);
  const { id: _, ...settings } = snapshot.machine;
  const file = { ...machine.file, ...settings };
  await admitForks(context, { name: machine.name, memoryMiB: file.memoryMiB, count, force });
  const layers = {
    disk: file.disk?.base ?? null,
    dataDisks: file.dataDisks.map(({ base }) => base ?? null),
  };
  const letLayersGo = await holdLayers(context, layers);
  try {
    const frozen = await frozenFromState(all, memory, work);
    return {
      ...{ context, file, frozen, layers, volumes },
      takesSnapshots: false,
      efiVars: snapshotPaths(paths.directory, name).efiVars,
      pauseMs: null,
      populatedMiB: memory.populatedMiB,
      copied: async () => {},
      async [Symbol.asyncDispose]() {
        letLayersGo();
        await frozen[Symbol.asyncDispose]();
      },
    };
  } catch (error) {
    letLayersGo();
    throw error;
  }
}
