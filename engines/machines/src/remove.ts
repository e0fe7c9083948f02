import type { RemoveRequest } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { clearRuntime } from "./clear-runtime.ts";
import type { Context } from "./context.ts";
import type { DamagedMachine } from "./damaged.ts";
import { discard } from "./discard.ts";
import { fail } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { removeOwnVolumes } from "./own-volumes.ts";
import { machinePaths } from "./paths.ts";
import { stopMachine } from "./stop.ts";
import { sweepUnusedLayers } from "./sweep.ts";
import { isCode, releaseVolume } from "./volumes.ts";

/**
 * Removes a machine and every file of it, and the volumes that are its own; data volumes are set free. The
 * volumes go first, for as long as the machine is there the removal can be repeated.
 */
export async function removeMachine(machine: Machine, request: RemoveRequest, work: Work): Promise<void> {
  const { context, name, paths } = machine;
  if (!machine.atRest) {
    if (request.force !== true) throw fail("MACHINE_RUNNING", { verb: "remove", name });
    await stopMachine(machine, { force: true }, work);
  }
  work.report({ phase: `removing ${name}` });
  for (const id of Object.keys(machine.run?.served ?? {})) await releaseVolume(machine, id);
  await dropVolumeSnapshots(machine, work);
  const kept = machine.file.volumes.filter(({ role }) => role === "data" || request.keepVolumes === true);
  const needed = request.keepVolumes === true ? [] : await removeOwnVolumes(machine);
  if (kept.length > 0) work.note(`kept: ${kept.map(({ id }) => id).join(", ")}`);
  if (needed.length > 0) {
    work.note(`kept, for they have snapshots or clones: ${needed.join(", ")}; see: skep vol ls`);
  }
  const states = new Set(await context.statesElsewhere(name));
  if (machine.file.suspended !== null) states.add(machine.file.suspended.state);
  await discard(context, paths.directory, machine.file.id);
  for (const state of states) await context.discardState(state);
  await clearRuntime(machine);
  context.machines.delete(name);
  context.ssh.drop(name);
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
  context.emit({ type: "machine.removed", subject: name, data: { id: machine.file.id } });
}

/** Those that its own snapshots consist of. One that a clone needs stays. */
async function dropVolumeSnapshots({ context, name }: Machine, work: Work): Promise<void> {
  for (const { volume, snapshot } of await context.volumeSnapshotsElsewhere(name)) {
    work.signal.throwIfAborted();
    try {
      await context.volumes.dropSnapshot(volume, snapshot, work.signal);
    } catch (error) {
      if (!isCode(error, "SNAPSHOT_NEEDED")) throw error;
      work.note(`kept: snapshot ${snapshot} of ${volume}, for it has clones`);
    }
  }
}

/** What it had as volumes is nobody's then: its file cannot be trusted to say which are its own. */
export async function removeDamaged(
  context: Context,
  { name, volumes }: DamagedMachine,
  work: Work,
): Promise<void> {
  for (const id of volumes) await context.volumes.release(id, name);
  if (volumes.length > 0) work.note(`kept: ${volumes.join(", ")}`);
  await discard(context, machinePaths(context.home, name).directory, `damaged-${name}`);
  context.damaged.delete(name);
  context.emit({ type: "machine.removed", subject: name, data: {} });
}
