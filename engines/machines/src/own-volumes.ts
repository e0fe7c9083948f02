import { rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { MachineRequest } from "@skep/api/schemas";
import { readVersionedJson, type Work, writeVersionedJson } from "@skep/base";
import type { Context } from "./context.ts";
import type { DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile, VolumeOfMachine } from "./machine-file.ts";
import { ownVolumesFile, shortId } from "./paths.ts";
import { findFirmware } from "./qemu.ts";
import { isCode } from "./volumes.ts";

/**
 * Volumes that are made with a machine and go with it: its root disk, and the variables of its firmware.
 */

const blockBytes = 4096;

/** What a root volume begins with: an image's disk, or nothing. */
export interface RootDisk {
  sizeBytes: number;
  base: DiskBase | null;
}

interface OwnVolume {
  name: string;
  role: "root" | "efi";
  sizeBytes: number;
  content: DiskBase | null;
}

/** In the directory of a machine that is being made. */
interface OwnVolumesFile {
  version: 1;
  /** Or ids. */
  names: string[];
  /** Whom they may be served for. */
  machine?: string;
}

export function checkOwnVolumes({ name, from, rootVolume, diskBytes }: MachineRequest): void {
  const refuse = (why: string, hint: string) => fail("MACHINE_INVALID", { name, why, hint });
  if (rootVolume !== undefined && from !== undefined) {
    throw refuse(
      "--root-volume is filled from an image, not from another machine",
      "leave --root-volume or --from out",
    );
  }
  const sizeBytes = rootVolume?.sizeBytes;
  if (sizeBytes !== undefined && diskBytes !== undefined && sizeBytes !== diskBytes) {
    throw refuse("--root-volume and --disk give two sizes for one disk", "give one of them");
  }
}

/**
 * Makes and fills them. Their names are written down before, so that what a killed skepd leaves is found
 * and removed at the next start; `discardUnfinished` does so after a failure.
 */
export async function makeOwnVolumes(
  context: Context,
  file: MachineFile,
  options: { directory: string; root: RootDisk | null; request: MachineRequest; work: Work },
): Promise<void> {
  const { directory, root, request, work } = options;
  const wanted: OwnVolume[] = [];
  const nameFor = (role: string) => `${file.name.slice(0, 30)}-${role}-${shortId(file.id)}`;
  if (root !== null) {
    const { sizeBytes } = root;
    const content = root.base === null ? null : { ...root.base, path: join(context.home, root.base.path) };
    wanted.push({ name: nameFor("root"), role: "root", sizeBytes, content });
  }
  if (request.efiVolume === true) {
    const { vars: path } = await findFirmware(file.arch);
    const { size } = await stat(path);
    wanted.push({ name: nameFor("efi"), role: "efi", sizeBytes: size, content: { path, format: "raw" } });
  }
  if (wanted.length === 0) return;
  const names = wanted.map(({ name }) => name);
  await writeVersionedJson<OwnVolumesFile>(ownVolumesFile(directory), { version: 1, names });
  for (const { name, role, sizeBytes, content } of wanted) {
    work.signal.throwIfAborted();
    work.report({ phase: `making volume ${name}` });
    const whole = Math.ceil(sizeBytes / blockBytes) * blockBytes;
    const made = await context.volumes.create({ sizeBytes: whole, name });
    const volume: VolumeOfMachine = {
      id: made.id,
      role,
      readOnly: false,
      sizeBytes: role === "efi" ? sizeBytes : made.sizeBytes,
      slot: null,
      detaching: false,
    };
    file.volumes = [...file.volumes, volume];
    if (content !== null) await context.volumes.importImage(made.id, content, work);
  }
}

/**
 * Removes the volumes that are a machine's own. One that others need, or that has snapshots, is kept; says
 * which stay.
 */
export async function removeOwnVolumes({
  context,
  file,
}: Pick<Machine, "context" | "file">): Promise<string[]> {
  const kept: string[] = [];
  for (const { id, role } of file.volumes) {
    if (role === "data") continue;
    try {
      await context.volumes.remove(id);
    } catch (error) {
      if (isCode(error, "VOLUME_NEEDED", "VOLUME_HAS_SNAPSHOTS")) kept.push(id);
      else if (!isCode(error, "VOLUME_NOT_FOUND")) throw error;
    }
  }
  return kept;
}

/** Removes what is there of a machine that was never finished: its volumes, then its directory. */
export async function discardUnfinished(context: Context, directory: string): Promise<void> {
  const { names, machine } = (await unfinishedFile(directory)) ?? { names: [] };
  for (const name of names) {
    try {
      const { id } = await context.volumes.resolve(name);
      if (machine !== undefined) await context.volumes.release(id, machine);
      await context.volumes.remove(id);
    } catch (error) {
      if (!isCode(error, "VOLUME_NOT_FOUND")) throw error;
    }
  }
  await rm(directory, { recursive: true, force: true });
}

/** Names of volumes that an unfinished machine may have; undefined where it was to have none. */
export async function unfinishedVolumes(directory: string): Promise<string[] | undefined> {
  return (await unfinishedFile(directory))?.names;
}

/** Says which volumes go with a directory of a machine that is not to be one. */
export async function writeUnfinished(directory: string, { name, volumes }: MachineFile): Promise<void> {
  const names = volumes.map(({ id }) => id);
  await writeVersionedJson<OwnVolumesFile>(ownVolumesFile(directory), { version: 1, names, machine: name });
}

async function unfinishedFile(directory: string): Promise<OwnVolumesFile | undefined> {
  try {
    return await readVersionedJson<OwnVolumesFile>(ownVolumesFile(directory), 1);
  } catch {
    return undefined;
  }
}
