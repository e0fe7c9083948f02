import { randomBytes } from "node:crypto";
import { open, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join } from "node:path";
import type { VolumeExport } from "@skep/api/schemas";
import { exists, isErrno, run, syncDirectory, syncFile, type Work } from "@skep/base";
import { inspectDisk } from "@skep/images";
import { fail } from "./errors.ts";

/** Disks into volumes and out of them: qemu-img reads and writes the volume over NBD, and leaves holes out. */

const blockBytes = 4096;
const install = "apt-get install qemu-utils";

/** What a volume for a disk has to be like; the disk may be anybody's, and is looked at first. */
export async function inspectForImport(
  { path, sizeBytes }: { path: string; sizeBytes: number | undefined },
  work: Work,
): Promise<{ format: "raw" | "qcow2"; sizeBytes: number }> {
  if (!isAbsolute(path)) throw fail("IMPORT_PATH", { path });
  work.report({ phase: `inspecting ${basename(path)}` });
  const { format, virtualBytes } = await inspectable(path, work);
  const needed = Math.ceil(virtualBytes / blockBytes) * blockBytes;
  if (sizeBytes !== undefined && sizeBytes < needed) throw fail("IMPORT_SIZE", { path, sizeBytes, needed });
  return { format, sizeBytes: sizeBytes ?? needed };
}

async function inspectable(path: string, work: Work) {
  try {
    if (!(await stat(path)).isFile()) throw fail("IMPORT_FILE", { path, why: "it is no file" });
    return await inspectDisk(path, path, work);
  } catch (error) {
    if (isErrno(error, "ENOENT")) throw fail("IMPORT_FILE", { path, why: "there is no such file" });
    if (isErrno(error, "EACCES")) throw fail("IMPORT_FILE", { path, why: "skepd may not read it" });
    throw error;
  }
}

/** Into a volume in which nothing is yet. */
export async function fillVolume(
  uri: string,
  { path, format }: { path: string; format: "raw" | "qcow2" },
  work: Work,
): Promise<void> {
  const target = ["-n", "--target-is-zero", "-t", "writeback", "-O", "raw"];
  await convert([...target, "-f", format, path, uri], `importing ${basename(path)}`, work);
}

/** EXPORT_EXISTS, or a path that is none. */
export async function checkTarget({ path, force = false }: VolumeExport): Promise<void> {
  if (!isAbsolute(path)) throw fail("IMPORT_PATH", { path });
  if (!force && (await exists(path))) throw fail("EXPORT_EXISTS", { path });
}

/** To a file that `checkTarget` has found good, which is there as a whole or not at all. */
export async function exportDisk(
  uri: string,
  { path, format = "qcow2" }: VolumeExport,
  work: Work,
): Promise<{ path: string; bytes: number }> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.part`);
  try {
    // Made here, so that nobody else may read it while it grows.
    await (await open(temporary, "wx", 0o600)).close();
    await convert(["-f", "raw", "-O", format, uri, temporary], `exporting to ${basename(path)}`, work);
    await syncFile(temporary);
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    if (isErrno(error, "ENOENT") || isErrno(error, "EACCES") || isErrno(error, "ENOTDIR")) {
      throw fail("EXPORT_FILE", { path, why: (error as Error).message }, { cause: error });
    }
    throw error;
  }
  const { blocks } = await stat(path);
  return { path, bytes: blocks * 512 };
}

async function convert(args: readonly string[], phase: string, work: Work): Promise<void> {
  work.report({ phase });
  await run("qemu-img", ["convert", "-p", ...args], {
    signal: work.signal,
    install,
    onStdoutLine(line) {
      const percent = /\((\d+(?:\.\d+)?)\/100%\)/.exec(line)?.[1];
      if (percent !== undefined) work.report({ phase, done: Number(percent), total: 100 });
    },
  });
}
