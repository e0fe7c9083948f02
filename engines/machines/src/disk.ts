import { stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { formatSize, run, syncFile } from "@skep/base";
import { fail } from "./errors.ts";
import { giveTo } from "./host-user.ts";

const qemuImg = (args: string[], signal?: AbortSignal, uid: number | null = null) =>
  run("qemu-img", args, {
    signal,
    install: "apt-get install qemu-utils",
    cwd: "/",
    ...(uid === null ? {} : { uid, gid: uid }),
  });

/** What a disk is an overlay of; `path` relative to `$SKEP_HOME`. */
export interface DiskBase {
  path: string;
  format: "raw" | "qcow2";
}

/** Makes an overlay that stores only changes, or a blank disk. Fails where it could never be filled. */
export async function createDisk(
  path: string,
  options: {
    home: string;
    sizeBytes: number;
    base: DiskBase | null;
    uid: number | null;
    signal?: AbortSignal;
  },
): Promise<void> {
  const { home, sizeBytes, base, uid, signal } = options;
  const args = ["create", "-q", "-f", "qcow2"];
  // Not opened (-u): a layer was a guest's disk, and its header may name any file or host.
  if (base !== null) args.push("-u", "-b", join(home, base.path), "-F", base.format);
  await qemuImg([...args, path, String(sizeBytes)], signal);
  await giveTo(uid, path, 0o600);
  await syncFile(path);
}

export async function checkDiskSize(home: string, sizeBytes: number): Promise<void> {
  const { blocks, bsize } = await statfs(home);
  if (sizeBytes > blocks * bsize) {
    throw fail("DISK_TOO_LARGE", {
      size: formatSize(sizeBytes),
      path: home,
      total: formatSize(blocks * bsize),
    });
  }
}

/**
 * Enlarges a stopped machine's disk, as the machine's own user: the file's header is the guest's word,
 * and may name other files to be opened, or changed.
 */
export async function growDisk(
  path: string,
  { sizeBytes, uid, signal }: { sizeBytes: number; uid: number | null; signal?: AbortSignal },
): Promise<void> {
  await qemuImg(["resize", "-q", "-f", "qcow2", path, String(sizeBytes)], signal, uid);
}

/** Bytes a sparse file takes on this host. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}
