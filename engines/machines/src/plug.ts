import type { CallOptions } from "@skep/qmp";
import type { LiveMachine } from "./live.ts";
import type { VolumeOfMachine } from "./machine-file.ts";
import { cutNode, deviceId, portId, volumeDevice, volumeNode } from "./volume-device.ts";

/** What is done to a running QEMU for one volume. */

/** Names of the devices that have an id of ours. */
async function devices({ qmp }: LiveMachine, options: CallOptions = {}): Promise<string[]> {
  const children = await qmp.execute("qom-list", { path: "/machine/peripheral" }, options);
  return children.map(({ name }) => name);
}

/** Whether the guest has the volume's device. */
export async function hasDevice(live: LiveMachine, id: string): Promise<boolean> {
  return (await devices(live)).includes(deviceId(id));
}

/** The root ports that something sits in: also what a guest has not given up although it was cut off. */
export async function occupiedSlots(live: LiveMachine, slots: number): Promise<Set<number>> {
  const occupied = new Set<number>();
  for (const device of await devices(live)) {
    if (!device.startsWith("disk-")) continue;
    const path = `/machine/peripheral/${device}`;
    const bus = await live.qmp.execute("qom-get", { path, property: "parent_bus" });
    for (let slot = 0; slot < slots; slot += 1) {
      if (String(bus).endsWith(`/${portId(slot)}`)) occupied.add(slot);
    }
  }
  return occupied;
}

export async function addNode(live: LiveMachine, volume: VolumeOfMachine): Promise<void> {
  const served = live.machine.run?.served[volume.id] ?? null;
  await live.qmp.execute("blockdev-add", volumeNode(volume, served));
}

export async function deleteNode({ qmp }: LiveMachine, id: string): Promise<void> {
  const nodes = await qmp.execute("query-named-block-nodes", { flat: true });
  if (!nodes.some((node) => node["node-name"] === id)) return;
  await qmp.execute("blockdev-del", { "node-name": id });
}

export async function addDevice({ qmp }: LiveMachine, volume: VolumeOfMachine): Promise<void> {
  await qmp.execute("device_add", volumeDevice(volume, { bus: portId(volume.slot as number) }));
}

/**
 * Asks the guest to give a device up; true once it has, false where it has not within the time. It may
 * still do so later.
 */
export async function askForDevice(
  live: LiveMachine,
  id: string,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<boolean> {
  const device = deviceId(id);
  const over = new AbortController();
  const signal = AbortSignal.any([options.signal, over.signal]);
  const gone = live.qmp
    .nextEvent(({ event, data }) => event === "DEVICE_DELETED" && data.device === device, {
      timeoutMs: options.timeoutMs,
      signal,
    })
    .then(
      () => true,
      () => false,
    );
  try {
    // Refused where an earlier request still waits for the guest: then that one counts.
    const asked = await live.qmp.execute("device_del", { id: device }).then(
      () => undefined,
      (error: unknown) => error,
    );
    if (!(await hasDevice(live, id))) return true;
    if (asked !== undefined && !/in the process of unplug/.test(String(asked))) throw asked;
    if (await gone) return true;
    options.signal.throwIfAborted();
    return !(await hasDevice(live, id));
  } finally {
    over.abort();
  }
}

/** Takes the volume from under a device that the guest holds on to: from now on it fails. */
export async function cutOff({ qmp }: LiveMachine, volume: VolumeOfMachine): Promise<void> {
  const { file, ...node } = cutNode(volume);
  const dead = `${volume.id}-cut`;
  await qmp.execute("blockdev-add", { ...file, "node-name": dead });
  try {
    await qmp.execute("blockdev-reopen", { options: [{ ...node, file: dead }] });
  } catch (error) {
    await qmp.execute("blockdev-del", { "node-name": dead });
    throw error;
  }
}

/** The server has dropped the connection: with its next request QEMU makes one anew, and learns the size. */
export async function showSize({ qmp }: LiveMachine, id: string, sizeBytes: number): Promise<void> {
  await qmp.hmp(`qemu-io ${id} "read 0 512"`);
  await qmp.execute("block_resize", { "node-name": id, size: sizeBytes });
}
