import type { Work } from "@skep/base";
import { fail } from "./errors.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import type { VolumeOfMachine } from "./machine-file.ts";
import { askForDevice, cutOff, deleteNode, hasDevice } from "./plug.ts";
import { refuseSuspended } from "./suspended.ts";
import { finishReverts } from "./volume-reverts.ts";
import { usesInGuest } from "./volume-use.ts";
import { changeVolume, dropVolume, releaseVolume, volumesReady } from "./volumes.ts";

/** Linux gives a disk up in well under a second, after 5 s of blinking where there is no ACPI (aarch64). */
const giveUpLimitMs = 15_000;

export interface DetachRequest {
  /** Although the guest uses it, and also where the guest does not give it up. */
  force?: boolean;
}

/**
 * Takes a volume from a machine. A running guest is asked for it: it may refuse, or not hear; then the
 * volume stays, marked as being detached, and goes as soon as the guest gives it up or has stopped.
 */
export async function detachVolume(
  machine: Machine,
  wanted: string,
  { force = false }: DetachRequest,
  work: Work,
): Promise<void> {
  const { name, live } = machine;
  refuseSuspended(machine, "detach a volume from");
  const volume = await attachedVolume(machine, wanted);
  const { id } = volume;
  if (volume.role !== "data") throw fail("VOLUME_BELONGS", { id, name, role: volume.role });
  if (live === undefined) {
    if (machine.state !== "stopped") throw fail("MONITOR_SILENT", { name });
    await finishReverts(machine, work.signal);
    return await forget(machine, id);
  }
  await volumesReady(machine, work.signal);
  if (!force) {
    const where = await usesInGuest(live.agent, volume, work.signal);
    if (where.length > 0) throw fail("VOLUME_USED", { id, name, where: where.join(", ") });
  }
  work.signal.throwIfAborted();
  work.report({ phase: `asking ${name} to give up ${id}` });
  await changeVolume(machine, id, { detaching: true });
  try {
    if (await askForDevice(live, id, { timeoutMs: giveUpLimitMs, signal: work.signal })) {
      return await finishDetach(live, id);
    }
    if (!force) throw fail("VOLUME_HELD", { id, name });
    work.note(`${name} does not give ${id} up; it is taken away, and the guest's reads and writes fail`);
    await cutOff(live, volume);
    await forget(machine, id);
  } catch (error) {
    if (live.alive) throw error;
    await live.gone; // which has released it, and dropped what was being detached
  }
}

async function attachedVolume(machine: Machine, wanted: string): Promise<VolumeOfMachine> {
  const { file, context, name } = machine;
  const find = (id: string) => file.volumes.find((volume) => volume.id === id);
  const found = find(wanted) ?? find((await context.volumes.resolve(wanted)).id);
  if (found === undefined) throw fail("VOLUME_NOT_ATTACHED", { id: wanted, name });
  return found;
}

/** The guest has given the device up. */
export async function finishDetach(live: LiveMachine, id: string): Promise<void> {
  await deleteNode(live, id);
  await forget(live.machine, id);
}

async function forget(machine: Machine, id: string): Promise<void> {
  if (machine.run?.served[id] !== undefined) await releaseVolume(machine, id);
  await dropVolume(machine, id);
}

/** A device has gone at a time when no verb waited for it: what was asked for earlier comes to its end. */
export async function noteDeviceGone(live: LiveMachine, id: string): Promise<void> {
  const { machine } = live;
  await machine.context.turns.run(machine.name, async () => {
    if (machine.live !== live || (await hasDevice(live, id))) return;
    const volume = machine.file.volumes.find((one) => one.id === id);
    if (volume === undefined) {
      await deleteNode(live, id); // had been cut off
      await deleteNode(live, `${id}-cut`);
    } else if (volume.detaching) {
      await finishDetach(live, id);
    }
  });
}
