import { lstat, readdir, rmdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "@skep/base";
import type { Machine } from "./machine.ts";
import { memoryDirectory } from "./paths.ts";

/** Second names of disks that QEMU was given while it ran (live-freeze.ts). */
const liveDisk = /^(root|data-\d+)-[0-9a-f]{8}\.qcow2$/;

/** Removes what dies with QEMU: memory, sockets, pidfile, second names. What cannot go, a start will name. */
export async function clearRuntime(machine: Machine): Promise<void> {
  const { directory, qemu } = machine.runtime;
  const cannot = (error: unknown) =>
    machine.context.log.warn({ machine: machine.name, err: error }, "cannot clear away what QEMU left");
  for (const each of [memoryDirectory(machine.file.id), qemu, directory]) {
    await clearDirectory(each).catch(cannot);
  }
  await clearLiveDisks(machine.paths.directory).catch(cannot);
}

async function clearLiveDisks(directory: string): Promise<void> {
  const names = await readdir(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  });
  for (const name of names) if (liveDisk.test(name)) await unlink(join(directory, name));
}

/** Its QEMU is gone, and borrows nothing any more. */
export async function letFrozenGo(machine: Machine): Promise<void> {
  const { context, run } = machine;
  const frozen = run?.memory.frozen ?? null;
  if (frozen === null) return;
  const cannot = (error: unknown) =>
    context.log.warn({ machine: machine.name, frozen, err: error }, "cannot let frozen memory go");
  await machine.saveRun(() => ({ memory: { frozen: null } })).catch(cannot);
  const others = [...context.machines.values()].some((other) => other.run?.memory.frozen === frozen);
  if (!others) await context.frozenUnused(frozen).catch(cannot);
}

/**
 * Removes a directory of ours, or QEMU's, with what lies in it. Goes into no further one: it might be
 * a link elsewhere by then. What another user has put in its place is left alone.
 */
async function clearDirectory(directory: string): Promise<void> {
  const parent = await lstat(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (parent === undefined) return;
  if (!parent.isDirectory() || (directory.startsWith("/dev/shm/") && parent.uid !== process.getuid?.()))
    return;
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    // Who is just about to take something back finds it gone, too.
    await (entry.isDirectory() ? rmdir(path) : unlink(path)).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
  }
  await rmdir(directory);
}
