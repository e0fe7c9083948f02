import { chmod, chown, copyFile, mkdir, open, readlink, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { exists, isErrno } from "@skep/base";
import { clearRuntime } from "./clear-runtime.ts";
import { fail } from "./errors.ts";
import { checkPassable, giveTo, isRoot, letThrough } from "./host-user.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { memoryDirectory, socketPathLimit } from "./paths.ts";
import { findFirmware } from "./qemu.ts";

/** Everything QEMU needs to find: directories of its own, log files, links. */
export async function prepareFiles(machine: Machine, memory: "own" | "borrowed"): Promise<void> {
  const { context, file, paths, runtime } = machine;
  const longest = runtime.control;
  if (longest.length > socketPathLimit) {
    throw fail("SOCKET_PATH_LONG", { path: longest, length: longest.length, limit: socketPathLimit });
  }
  if (file.uid !== null) await checkPassable(context.home);
  await clearRuntime(machine);
  await mkdir(runtime.directory, { recursive: true, mode: 0o711 });
  if (isRoot) await chmod(runtime.directory, 0o711);
  await mkdir(runtime.qemu, { mode: 0o700 });
  if (file.uid !== null) await chown(runtime.qemu, file.uid, file.uid);
  if (process.platform === "linux" && memory === "own") await prepareMemory(file);
  for (const [name, target] of [
    ["console.sock", runtime.console],
    ["control.sock", runtime.control],
  ] as const) {
    await linkTo(join(paths.directory, name), target);
  }
  const log = await open(paths.consoleLog, "a", 0o600);
  await log.close();
  await giveTo(file.uid, paths.consoleLog, 0o600);
  await prepareFirmware(machine);
}

/** A UEFI machine's variables, which its command line names: made once and kept, unless on a volume. */
export async function prepareFirmware({ file, paths }: Machine): Promise<void> {
  if (file.volumes.some(({ role }) => role === "efi")) return;
  if (file.firmware !== "uefi" || (await exists(paths.efiVars))) return;
  await copyFile((await findFirmware(file.arch)).vars, paths.efiVars);
  await giveTo(file.uid, paths.efiVars, 0o600);
}

/**
 * The directory stays ours and only the file is QEMU's: what its user owned in /dev/shm, it could
 * replace by a link elsewhere.
 */
async function prepareMemory({ id, uid, name }: MachineFile): Promise<void> {
  const directory = memoryDirectory(id);
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    throw fail("MEMORY_OCCUPIED", { name, path: directory }, { cause: error });
  }
  await letThrough(uid, directory);
  const ram = join(directory, "ram");
  await writeFile(ram, "", { flag: "wx", mode: 0o600 });
  await giveTo(uid, ram, 0o600);
}

async function linkTo(path: string, target: string): Promise<void> {
  const present = await readlink(path).catch(() => undefined);
  if (present === target) return;
  await rm(path, { force: true });
  await symlink(target, path);
}
