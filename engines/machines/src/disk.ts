import { randomUUID } from "node:crypto";
import { chmod, chown, link, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import {
  ensureDirectory,
  formatSize,
  readVersionedJson,
  run,
  syncDirectory,
  syncFile,
  writeVersionedJson,
} from "@skep/base";
import { fail } from "./errors.ts";
import { giveTo, isRoot } from "./host-user.ts";
import { homePaths } from "./paths.ts";

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

/** A machine's former disk, frozen because other disks are overlays of it. */
export interface Layer {
  version: 1;
  base: DiskBase | null;
  from: string;
  createdAt: string;
}

/**
 * First half of sharing a stopped machine's disk: gives the file a second name among the layers.
 * The caller then writes the returned base into `machine.json` and calls `finishFreeze`.
 */
export async function linkLayer(
  home: string,
  disk: string,
  layer: Omit<Layer, "version">,
): Promise<DiskBase> {
  const { layers } = homePaths(home);
  await ensureDirectory(layers, 0o711);
  const stem = join(layers, randomUUID());
  await writeVersionedJson<Layer>(`${stem}.json`, { version: 1, ...layer });
  await link(disk, `${stem}.qcow2`);
  await syncDirectory(layers);
  return { path: relative(home, `${stem}.qcow2`), format: "qcow2" };
}

/**
 * Second half: replaces the disk by an overlay of the layer. Repeated after a crash, for then disk
 * and layer are still one file; does nothing where they are not.
 */
export async function finishFreeze(options: {
  home: string;
  disk: string;
  sizeBytes: number;
  base: DiskBase;
  uid: number | null;
}): Promise<void> {
  const { home, disk, base } = options;
  const layer = join(home, base.path);
  const [here, there] = await Promise.all([stat(disk), stat(layer)]);
  if (here.ino !== there.ino || here.dev !== there.dev) return;
  const overlay = `${disk}.new`;
  await rm(overlay, { force: true });
  await createDisk(overlay, options);
  if (isRoot) await chown(layer, 0, 0);
  await chmod(layer, 0o444);
  await rename(overlay, disk);
  await syncDirectory(dirname(disk));
}

/** The bases of a disk, nearest first, by following the layers' records. */
export async function baseChain(home: string, base: DiskBase | null): Promise<DiskBase[]> {
  const chain: DiskBase[] = [];
  for (let next = base; next !== null && chain.length < 1000; ) {
    chain.push(next);
    if (!next.path.startsWith("layers/")) break;
    next = (await readVersionedJson<Layer>(join(home, next.path.replace(/\.qcow2$/, ".json")), 1)).base;
  }
  return chain;
}

/** Removes layers that no disk in `bases` stands on any more. */
export async function sweepLayers(home: string, bases: readonly (DiskBase | null)[]): Promise<void> {
  const { layers } = homePaths(home);
  const used = new Set<string>();
  for (const base of bases) for (const step of await baseChain(home, base)) used.add(step.path);
  for (const name of await readdir(layers).catch(() => [])) {
    const stem = name.replace(/\.(qcow2|json)$/, "");
    if (!used.has(`layers/${stem}.qcow2`)) await rm(join(layers, name), { force: true });
  }
}

/** Bytes a sparse file takes on this host. */
export async function allocatedBytes(path: string): Promise<number> {
  return (await stat(path)).blocks * 512;
}
