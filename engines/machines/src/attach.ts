import type { MachineRequest, MachineVolume } from "@skep/api/schemas";
import { Undo, type Work } from "@skep/base";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import { spareSlots, type VolumeOfMachine } from "./machine-file.ts";
import { addDevice, addNode, askForDevice, cutOff, deleteNode, hasDevice, occupiedSlots } from "./plug.ts";
import { refuseSuspended } from "./suspended.ts";
import { freeSlot, guestDevice } from "./volume-device.ts";
import { dropVolume, machineOf, releaseVolume, serveVolume, volumesReady } from "./volumes.ts";

const takeBackMs = 5000;

export interface AttachRequest {
  /** A volume's id or name. */
  volume: string;
  readOnly?: boolean;
}

/**
 * Gives a machine one more volume: at once where it runs, else at its next start. The machine's file names
 * it first: after a crash the next skepd finds it there and plugs it in (settle.ts).
 */
export async function attachVolume(
  machine: Machine,
  { volume: wanted, readOnly = false }: AttachRequest,
  work: Work,
): Promise<MachineVolume> {
  const { context, name, live } = machine;
  refuseSuspended(machine, "attach a volume to");
  if (live === undefined && machine.state !== "stopped") throw fail("MONITOR_SILENT", { name });
  const { id, sizeBytes } = await context.volumes.resolve(wanted);
  await volumesReady(machine, work.signal);
  work.signal.throwIfAborted();
  work.report({ phase: `attaching ${id}` });
  if (live !== undefined && !owns(machine, id) && (await hasDevice(live, id))) {
    throw fail("VOLUME_LINGERS", { id, name });
  }
  await using undo = new Undo();
  const volume = await context.locks.run("new", async () => {
    checkFree(context, id);
    const slot = freeSlot(await takenSlots(machine), spareSlots);
    if (slot === undefined) throw fail("SLOTS_TAKEN", { name, slots: spareSlots });
    const claimed: VolumeOfMachine = { id, role: "data", readOnly, sizeBytes, slot, detaching: false };
    await machine.save(({ volumes }) => ({ volumes: [...volumes, claimed] }));
    return claimed;
  });
  undo.push(() => dropVolume(machine, id));
  if (live !== undefined) await plug(live, volume, work, undo);
  undo.keep();
  return { ...volume, device: guestDevice(volume) };
}

function owns({ file }: Machine, id: string): boolean {
  return file.volumes.some((volume) => volume.id === id);
}

export function checkFree(context: Context, id: string): void {
  const owner = machineOf(context, id);
  if (owner !== undefined) throw fail("VOLUME_ATTACHED", { id, name: owner });
}

/** The volumes that a new machine shall have from the start. */
export async function resolveVolumes(
  context: Context,
  { name, volumes = [] }: MachineRequest,
  work: Work,
): Promise<VolumeOfMachine[]> {
  const found: VolumeOfMachine[] = [];
  for (const [slot, { volume, readOnly = false }] of volumes.entries()) {
    work.signal.throwIfAborted();
    const { id, sizeBytes } = await context.volumes.resolve(volume);
    if (found.some((other) => other.id === id)) {
      throw fail("MACHINE_INVALID", { name, why: `volume ${id} is given twice`, hint: "give it once" });
    }
    found.push({ id, role: "data", readOnly, sizeBytes, slot, detaching: false });
  }
  return found;
}

async function takenSlots({ file, live }: Machine): Promise<Set<number>> {
  const taken = live === undefined ? new Set<number>() : await occupiedSlots(live, spareSlots);
  for (const { slot } of file.volumes) if (slot !== null) taken.add(slot);
  return taken;
}

/** Serves a volume and plugs it into a running machine; `undo` gets the way back. */
export async function plug(
  live: LiveMachine,
  volume: VolumeOfMachine,
  work: Work,
  undo: Undo,
): Promise<void> {
  const { machine } = live;
  undo.push(() =>
    // It stays recorded as served, and is released when the machine or skepd starts next.
    releaseVolume(machine, volume.id).catch((error: unknown) =>
      machine.context.log.warn({ machine: machine.name, volume: volume.id, err: error }, "cannot release it"),
    ),
  );
  await serveVolume(machine, volume);
  work.signal.throwIfAborted();
  undo.push(() => unplug(live, volume));
  await addNode(live, volume);
  work.signal.throwIfAborted();
  await addDevice(live, volume);
}

/** A command that failed, or whose answer never came, may have done its work all the same. */
async function unplug(live: LiveMachine, volume: VolumeOfMachine): Promise<void> {
  const { id } = volume;
  try {
    const { signal } = new AbortController();
    const ask = () => askForDevice(live, id, { timeoutMs: takeBackMs, signal });
    const gone = !(await hasDevice(live, id)) || (await ask());
    await (gone ? deleteNode(live, id) : cutOff(live, volume));
  } catch (error) {
    if (live.alive) throw error;
  }
}
