import { randomBytes } from "node:crypto";
import { existsSync, lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { chmod, mkdir, open, readdir, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import {
  baseErrors,
  bootId,
  errorsOf,
  exists,
  isErrno,
  processStartTime,
  syncDirectory,
  writeFileAtomic,
} from "@skep/base";
import {
  allocatedBytes,
  digestFile,
  digestText,
  type ImageFile,
  type ImageManifest,
  manifestVersion,
} from "./manifest.ts";
import { type ImagePaths, manifestFile, refFile } from "./paths.ts";
import type { StoredImage } from "./types.ts";

/** `refs/<arch>/<name>.json`: the digest that a name means now. */
export interface ImageRef {
  version: 1;
  name: string;
  arch: Arch;
  digest: string;
  createdAt: string;
}

const baseFail = errorsOf(baseErrors);
const refVersion = 1;
const stagingPattern = /^\.staging-(\d+)-(\d+)-([0-9a-f]{8})-[0-9a-f]+$/;
const digestPattern = /^[0-9a-f]{64}$/;

/** Makes the store's directories so that QEMU, which runs as another user, can pass through them. */
async function prepareStore(paths: ImagePaths): Promise<void> {
  await mkdir(join(paths.images, ".."), { recursive: true, mode: 0o711 });
  await mkdir(paths.images, { recursive: true });
  await chmod(paths.images, 0o755);
}

/** A directory beside the images, renamed into place when it is whole; the name tells whose it is. */
export async function makeStaging(paths: ImagePaths, parent = paths.images): Promise<string> {
  await prepareStore(paths);
  await mkdir(parent, { recursive: true });
  const name = `.staging-${process.pid}-${processStartTime(process.pid) ?? 0}-${bootId()
    .slice(0, 8)
    .replace(/[^0-9a-f]/g, "0")
    .padEnd(8, "0")}`;
  const directory = join(parent, `${name}-${randomBytes(6).toString("hex")}`);
  await mkdir(directory, { mode: 0o755 });
  await chmod(directory, 0o755);
  return directory;
}

/** True for staging directories whose process is gone. */
export function isAbandoned(name: string): boolean {
  const match = stagingPattern.exec(name);
  if (match === null) return false;
  const [, pid, started, boot] = match;
  if (
    boot !==
    bootId()
      .slice(0, 8)
      .replace(/[^0-9a-f]/g, "0")
      .padEnd(8, "0")
  )
    return true;
  return (processStartTime(Number(pid)) ?? "0") !== started;
}

/** What is known of an image before its files are digested. */
export type Draft = Omit<ImageManifest, "version" | "disk" | "kernel" | "initramfs"> & {
  disk: { file: string; format: "raw" | "qcow2"; virtualBytes: number } | null;
  kernel: string | null;
  initramfs: string | null;
};

/**
 * Digests the staged files, writes the manifest, makes all of it read-only and durable, and renames it
 * to its digest. An equal image that is there already wins, and the staged one is dropped.
 */
export async function commitImage(
  paths: ImagePaths,
  staging: string,
  draft: Draft,
  signal: AbortSignal,
): Promise<StoredImage> {
  const digested = async (file: string): Promise<ImageFile> => {
    const path = join(staging, file);
    return { file, size: (await stat(path)).size, digest: await digestFile(path, signal) };
  };
  const manifest: ImageManifest = {
    version: manifestVersion,
    ...draft,
    disk:
      draft.disk === null
        ? null
        : {
            ...(await digested(draft.disk.file)),
            format: draft.disk.format,
            virtualBytes: draft.disk.virtualBytes,
          },
    kernel: draft.kernel === null ? null : await digested(draft.kernel),
    initramfs: draft.initramfs === null ? null : await digested(draft.initramfs),
  };
  const text = `${JSON.stringify(manifest, null, 2)}\n`;
  await writeFile(join(staging, manifestFile), text);
  for (const file of await readdir(staging)) {
    const handle = await open(join(staging, file), "r");
    try {
      await handle.chmod(0o444);
      await handle.sync();
    } finally {
      await handle.close();
    }
  }
  await syncDirectory(staging);
  signal.throwIfAborted();
  const digest = digestText(text);
  const target = join(paths.images, digest.slice("sha256:".length));
  try {
    await rename(staging, target);
    await syncDirectory(paths.images);
  } catch (error) {
    if (!isErrno(error, "ENOTEMPTY") && !isErrno(error, "EEXIST")) throw error;
    await rm(staging, { recursive: true, force: true });
  }
  return await setRef(paths, draft.name, draft.arch, digest);
}

/** Points a name at a digest; the image it named before stays until `prune`. */
export async function setRef(
  paths: ImagePaths,
  name: string,
  arch: Arch,
  digest: string,
): Promise<StoredImage> {
  const path = refFile(paths, arch, name);
  const before = readRef(path);
  if (before?.digest !== digest) {
    await mkdir(join(paths.refs, arch), { recursive: true });
    const ref: ImageRef = { version: refVersion, name, arch, digest, createdAt: new Date().toISOString() };
    await writeFileAtomic(path, `${JSON.stringify(ref, null, 2)}\n`, 0o644);
  }
  return loadImage(paths, digest, readRef(path)) as StoredImage;
}

export async function removeRef(paths: ImagePaths, arch: Arch, name: string): Promise<void> {
  await unlink(refFile(paths, arch, name));
  await syncDirectory(join(paths.refs, arch));
}

/** Takes an image off the disk: out of its place first, so that no half of it is ever found there. */
export async function removeImage(paths: ImagePaths, digest: string): Promise<number> {
  const directory = join(paths.images, digest.slice("sha256:".length));
  if (!(await exists(directory))) return 0;
  const freed = directoryBytes(directory);
  const staging = await makeStaging(paths);
  await rename(directory, join(staging, "old"));
  await syncDirectory(paths.images);
  await rm(staging, { recursive: true, force: true });
  return freed;
}

export function readRefs(paths: ImagePaths): ImageRef[] {
  const refs: ImageRef[] = [];
  for (const arch of ["x86_64", "aarch64"] as const) {
    const directory = join(paths.refs, arch);
    if (!existsSync(directory)) continue;
    for (const file of readdirSync(directory).sort()) {
      if (!file.endsWith(".json") || file.startsWith(".")) continue;
      const ref = readRef(join(directory, file));
      if (ref !== undefined) refs.push(ref);
    }
  }
  return refs;
}

export function readRef(path: string): ImageRef | undefined {
  const ref = readJson<ImageRef>(path, refVersion);
  if (ref === undefined) return undefined;
  if (!digestPattern.test(String(ref.digest).replace(/^sha256:/, ""))) {
    throw baseFail("FILE_DAMAGED", { path, why: "its digest is not a digest" });
  }
  return ref;
}

export function storedDigests(paths: ImagePaths): string[] {
  if (!existsSync(paths.images)) return [];
  return readdirSync(paths.images)
    .filter((name) => digestPattern.test(name))
    .map((hex) => `sha256:${hex}`)
    .sort();
}

export function readManifest(paths: ImagePaths, digest: string): ImageManifest | undefined {
  const hex = digest.slice("sha256:".length);
  return readJson<ImageManifest>(join(paths.images, hex, manifestFile), manifestVersion);
}

/** The image of a digest as others use it, or undefined where it is not here. */
export function loadImage(paths: ImagePaths, digest: string, ref?: ImageRef): StoredImage | undefined {
  const manifest = readManifest(paths, digest);
  if (manifest === undefined) return undefined;
  const directory = join(paths.images, digest.slice("sha256:".length));
  return {
    name: ref?.name ?? manifest.name,
    digest,
    arch: manifest.arch,
    directory,
    disk:
      manifest.disk === null
        ? null
        : {
            path: join(directory, manifest.disk.file),
            format: manifest.disk.format,
            virtualBytes: manifest.disk.virtualBytes,
          },
    kernel: manifest.kernel === null ? null : join(directory, manifest.kernel.file),
    initramfs: manifest.initramfs === null ? null : join(directory, manifest.initramfs.file),
    kernelArguments: manifest.kernelArguments,
    user: manifest.user,
    ssh: manifest.ssh,
    source: manifest.source,
    createdAt: ref?.createdAt ?? statSync(join(directory, manifestFile)).mtime.toISOString(),
    storedBytes: directoryBytes(directory),
  };
}

/** Bytes on disk of a directory's files, holes not counted. */
export function directoryBytes(directory: string): number {
  return readdirSync(directory, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + allocatedBytes(lstatSync(join(entry.parentPath, entry.name))), 0);
}

function readJson<T extends { version: number }>(path: string, supported: number): T | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
  let value: { version?: unknown } | null;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw baseFail("FILE_DAMAGED", { path, why: "it is not JSON" }, { cause: error });
  }
  if (typeof value !== "object" || value === null)
    throw baseFail("FILE_DAMAGED", { path, why: "it is no object" });
  if (value.version !== supported)
    throw baseFail("FILE_VERSION", { path, version: value.version, supported });
  return value as T;
}
