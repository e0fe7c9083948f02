import { copyFile, rename, rm } from "node:fs/promises";
import { isErrno, syncDirectory, syncFile } from "@skep/base";
import { createDisk } from "./disk.ts";
import { giveTo } from "./host-user.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";

/** What a machine shall go on from in the stead of its disks. */
export interface OtherDisks extends Pick<MachineFile, "disk" | "dataDisks"> {
  /** Files to copy over its own: the UEFI variables of then, and the host keys that were known. */
  copies: { from: string; to: string; owned: boolean }[];
}

const beside = (path: string) => `${path}.next`;

/**
 * First half of giving a machine other disks: empty overlays of them lie beside its own, which nobody looks
 * at until `commitSwitch`. The machine may run meanwhile. What is left on failure counts for nothing.
 */
export async function prepareSwitch(
  machine: Machine,
  { disk, dataDisks, copies }: OtherDisks,
  signal?: AbortSignal,
): Promise<void> {
  const { paths, file, context } = machine;
  const { uid } = file;
  await abandonSwitch(machine);
  const overlays = [
    ...(disk === null ? [] : [{ path: paths.disk, ...disk }]),
    ...dataDisks.map((one, index) => ({ path: paths.dataDisk(index), base: null, ...one })),
  ];
  for (const { path, sizeBytes, base } of overlays) {
    await createDisk(beside(path), { home: context.home, sizeBytes, base: base ?? null, uid, signal });
  }
  for (const { from, to, owned } of copies) {
    await copyFile(from, beside(to));
    if (owned) await giveTo(uid, beside(to), 0o600);
    await syncFile(beside(to));
  }
  await syncDirectory(paths.directory);
}

/** Second half, of a machine without QEMU: one write of its file, with `change`, makes them its own. */
export async function commitSwitch(machine: Machine, change: Partial<MachineFile>): Promise<void> {
  await machine.save({ ...change, switching: true });
  await finishSwitch(machine);
}

/** Puts in place what the machine's file speaks of already; again after a crash. */
export async function finishSwitch(machine: Machine): Promise<void> {
  if (machine.file.switching !== true) return;
  for (const path of switchable(machine)) {
    await rename(beside(path), path).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }
  await syncDirectory(machine.paths.directory);
  await machine.save({ switching: undefined });
}

/** Removes what was prepared, unless it is the machine's already. */
export async function abandonSwitch(machine: Machine): Promise<void> {
  if (machine.file.switching === true) return;
  for (const path of switchable(machine)) await rm(beside(path), { force: true });
}

function switchable({ paths, file }: Machine): string[] {
  const dataDisks = file.dataDisks.map((_, index) => paths.dataDisk(index));
  return [paths.disk, ...dataDisks, paths.efiVars, paths.knownHosts];
}
