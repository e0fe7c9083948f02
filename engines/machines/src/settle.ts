import { quietWork, Undo } from "@skep/base";
import { plug } from "./attach.ts";
import type { Context } from "./context.ts";
import { detachVolume, finishDetach } from "./detach.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import type { VolumeOfMachine } from "./machine-file.ts";
import { deleteNode, hasDevice } from "./plug.ts";
import { dropVolume, machineOf, releaseVolumes, serveVolume } from "./volumes.ts";

/**
 * Brings the volumes of all machines in order. In the background, for it may have to start storaged; verbs on
 * a machine wait for it.
 */
export async function settleAll(context: Context, sweepVolumes: () => Promise<void>): Promise<void> {
  const { machines, turns, log } = context;
  const settling = [...machines.values()].map((machine) =>
    turns
      .run(machine.name, () => settleVolumes(machine))
      .catch((error: unknown) => {
        log.error({ machine: machine.name, err: error }, "cannot bring its volumes in order");
      }),
  );
  const sweeping = sweepVolumes().catch((error: unknown) => {
    log.error({ err: error }, "cannot remove the volumes of machines that were never finished");
  });
  await Promise.all([...settling, sweeping]);
}

/**
 * Brings a machine's volumes in order after skepd was away: what runs is served, and has exactly what its
 * file says; what has ended gives back what it had. Within a turn of the machine.
 */
export async function settleVolumes(machine: Machine): Promise<void> {
  const { live, context, name } = machine;
  if (live === undefined) {
    if (machine.atRest) await releaseVolumes(machine);
    return;
  }
  for (const volume of machine.file.volumes) {
    try {
      await settleVolume(live, volume);
    } catch (error) {
      context.log.error({ machine: name, volume: volume.id, err: error }, "cannot bring the volume in order");
    }
  }
}

async function settleVolume(live: LiveMachine, volume: VolumeOfMachine): Promise<void> {
  const { machine } = live;
  await serveVolume(machine, volume);
  if (volume.role !== "data" || (await hasDevice(live, volume.id))) return;
  if (volume.detaching) return await finishDetach(live, volume.id);
  await using undo = new Undo();
  undo.push(() => dropVolume(machine, volume.id));
  await deleteNode(live, volume.id); // of an attach that came no further
  await plug(live, volume, quietWork(), undo);
  undo.keep();
  machine.context.log.info({ machine: machine.name, volume: volume.id }, "attached what was half attached");
}

/**
 * What became of a job that a killed skepd left half done: by now a half done attach is finished, or undone.
 * What a guest was asked to give up is asked for again.
 */
export async function recoverVolume(
  context: Context,
  kind: "volume.attach" | "volume.detach",
  volume: string,
  request: unknown,
): Promise<"finished" | "undone"> {
  const { machine: wanted, force = false } = (request ?? {}) as { machine?: string; force?: boolean };
  const { id } = await context.volumes.resolve(volume);
  const name = machineOf(context, id);
  if (kind === "volume.attach") return name !== undefined && name === wanted ? "finished" : "undone";
  if (name === undefined) return "finished";
  return await context.turns.run(name, async () => {
    const machine = context.machines.get(name);
    const entry = machine?.file.volumes.find((one) => one.id === id);
    if (machine === undefined || entry?.detaching !== true) return "undone";
    await detachVolume(machine, id, { force }, quietWork());
    return "finished";
  });
}
