import type { ServedVolumes, VolumeOfMachine } from "./machine-file.ts";

/**
 * How a volume looks to QEMU and to the guest. Cold in the command line and hot over QMP it is the same
 * device on the same root port, so that a restart changes nothing in the guest.
 */

/** Practically for ever; QEMU counts seconds in 32 bits. After it, the guest would see EIO. */
const reconnectDelaySeconds = 2 ** 32 - 1;

/** A virtio serial holds 20 characters, an id has 21: without its dash, as EC2 writes it. */
export function volumeSerial(id: string): string {
  return id.replace("-", "");
}

/** Where udev shows the disk in the guest. */
export function guestDevice({ id, role }: Pick<VolumeOfMachine, "id" | "role">): string | null {
  return role === "efi" ? null : `/dev/disk/by-id/virtio-${volumeSerial(id)}`;
}

export function deviceId(id: string): string {
  return `disk-${id}`;
}

/** The volume of a device, or undefined where the device is something else. */
export function volumeOfDevice(device: unknown): string | undefined {
  return typeof device === "string" ? /^disk-(vol-[0-9a-f]{17})$/.exec(device)?.[1] : undefined;
}

/** The id of the root port with a number. */
export function portId(slot: number): string {
  return `port${slot}`;
}

/** What stands for an address that storaged has not given yet, in a command line that is only shown. */
const unserved = { socket: "(given by storaged at the start)", export: "" };

/** The node above the connection stays the guest's disk where the connection is cut off (`cutNode`). */
export function volumeNode(
  { id, readOnly, role, sizeBytes }: VolumeOfMachine,
  served: ServedVolumes[string],
) {
  const { socket: path, export: name } = served ?? unserved;
  const flash = role === "efi";
  const discard = flash ? {} : { discard: "unmap" };
  return {
    driver: "raw",
    "node-name": id,
    "read-only": readOnly,
    // QEMU refuses flash memory of another size than the firmware's, as after `vol resize`.
    ...(flash ? { size: sizeBytes } : {}),
    ...discard,
    ...(readOnly || flash ? {} : { "detect-zeroes": "unmap" }),
    file: {
      driver: "nbd",
      server: { type: "unix", path },
      export: name,
      "reconnect-delay": reconnectDelaySeconds,
      "read-only": readOnly,
      ...discard,
    },
  };
}

/** The same node on a disk that fails whatever is asked of it. */
export function cutNode(volume: VolumeOfMachine) {
  const requests = ["read", "write", "write-zeroes", "discard", "flush"];
  return {
    ...volumeNode(volume, null),
    file: {
      driver: "blkdebug",
      image: { driver: "null-co", size: volume.sizeBytes },
      "inject-error": requests.map((iotype) => ({
        event: "none",
        iotype,
        errno: 5,
        once: false,
        immediately: true,
      })),
    },
  };
}

/**
 * ENOSPC pauses the guest until there is room, as with local disks. Anything else is the guest's to know: a
 * chunk that is lost for good must not freeze the whole machine, and a storaged that is gone is no error.
 */
export function volumeDevice(volume: VolumeOfMachine, place: { bus: string } | { addr: string }) {
  return {
    driver: "virtio-blk-pci",
    ...place,
    drive: volume.id,
    id: deviceId(volume.id),
    serial: volumeSerial(volume.id),
    werror: "enospc",
    rerror: "report",
  };
}

/** The first root port that nothing sits in. */
export function freeSlot(taken: ReadonlySet<number>, slots: number): number | undefined {
  for (let slot = 0; slot < slots; slot += 1) if (!taken.has(slot)) return slot;
  return undefined;
}
