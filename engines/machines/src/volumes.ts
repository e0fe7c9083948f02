import { SkepError, type Work } from "@skep/base";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import type { Machine } from "./machine.ts";
import type { VolumeOfMachine } from "./machine-file.ts";
import { showSize } from "./plug.ts";
import type { VolumeAccess } from "./types.ts";

/** For an installation that serves none. */
export const noVolumes: VolumeAccess = {
  resolve: absent,
  serve: absent,
  release: absent,
  create: absent,
  remove: absent,
  ready: absent,
  importImage: absent,
  mark: absent,
  complete: absent,
  abandon: absent,
  snapshotsOf: absent,
  dropSnapshot: absent,
  revert: absent,
  cloneSnapshot: absent,
};

async function absent(): Promise<never> {
  throw fail("VOLUMES_ABSENT");
}

/** The name of the machine that has a volume, also one that is being made or cannot be read. */
export function machineOf({ machines, pending, damaged }: Context, id: string): string | undefined {
  const files = [...[...machines.values()].map((machine) => machine.file), ...pending];
  const owner = files.find(({ volumes }) => volumes.some((volume) => volume.id === id));
  return owner?.name ?? [...damaged.values()].find(({ volumes }) => volumes.includes(id))?.name;
}

/**
 * QEMU waits for a storage server that is gone, and its monitor waits with it: whatever stops or changes a
 * machine sees first that the server is there.
 */
export async function volumesReady({ context, atRest, file }: Machine, signal?: AbortSignal): Promise<void> {
  if (atRest || file.volumes.length === 0) return;
  await context.volumes.ready(signal);
}

/** Has every volume served, as before a start. */
export async function serveVolumes(machine: Machine, work: Work): Promise<void> {
  for (const volume of machine.file.volumes) {
    work.signal.throwIfAborted();
    work.report({ phase: `opening ${volume.id}` });
    await serveVolume(machine, volume);
  }
}

/** Recorded before it is asked for, so that after a crash nothing stays open that nobody knows of. */
export async function serveVolume(machine: Machine, volume: VolumeOfMachine): Promise<void> {
  const { context, name, file } = machine;
  const { id, role } = volume;
  const { uid } = file;
  await machine.saveRun(({ served }) => ({ served: { ...served, [id]: served[id] ?? null } }));
  const { sizeBytes, ...where } = await context.volumes.serve(id, {
    machine: name,
    owner: uid === null ? null : { uid, gid: uid },
    everyWriteFua: role === "efi",
  });
  const place = { socket: where.socket, export: where.export };
  await machine.saveRun(({ served }) => ({ served: { ...served, [id]: place } }));
  if (role !== "efi" && sizeBytes !== volume.sizeBytes) await changeVolume(machine, id, { sizeBytes });
}

export async function releaseVolume(machine: Machine, id: string): Promise<void> {
  await machine.context.volumes.release(id, machine.name);
  await machine.saveRun(({ served: { [id]: _, ...served } }) => ({ served }));
}

/** After the end of QEMU. What the guest had been asked to give up it has given up now. */
export async function releaseVolumes(machine: Machine): Promise<void> {
  const { context, name } = machine;
  for (const id of Object.keys(machine.run?.served ?? {})) {
    try {
      await releaseVolume(machine, id);
    } catch (error) {
      // Stays recorded, and is tried again when skepd or the machine starts.
      context.log.warn({ machine: name, volume: id, err: error }, "cannot release the volume");
    }
  }
  if (machine.file.volumes.some(({ detaching }) => detaching)) {
    await machine.save(({ volumes }) => ({ volumes: volumes.filter(({ detaching }) => !detaching) }));
  }
}

/** Tells a running guest of its volume's new size. Flash memory keeps the size it was made with. */
export async function resizeVolume(machine: Machine, id: string, sizeBytes: number): Promise<void> {
  const volume = machine.file.volumes.find((one) => one.id === id);
  if (volume === undefined || volume.role === "efi") return;
  await volumesReady(machine);
  if (machine.live !== undefined) await showSize(machine.live, id, sizeBytes);
  await changeVolume(machine, id, { sizeBytes });
}

export async function changeVolume(
  machine: Machine,
  id: string,
  change: Partial<VolumeOfMachine>,
): Promise<void> {
  await machine.save(({ volumes }) => ({
    volumes: volumes.map((volume) => (volume.id === id ? { ...volume, ...change } : volume)),
  }));
}

export async function dropVolume(machine: Machine, id: string): Promise<void> {
  await machine.save(({ volumes }) => ({ volumes: volumes.filter((volume) => volume.id !== id) }));
}

/** Whether an error of storaged says this, whatever class it came in. */
export function isCode(error: unknown, ...codes: string[]): boolean {
  return error instanceof SkepError && codes.includes(error.code);
}
