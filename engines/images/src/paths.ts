/** Every name that this room has on disk, below `$SKEP_HOME`. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Arch } from "@skep/api/schemas";

export interface ImagePaths {
  /** `images/<64 hex digits>/`: one immutable image each. */
  images: string;
  /** `images/refs/<arch>/<name>.json`: which digest a name means. */
  refs: string;
  /** `cache/downloads/`: partial downloads and what is known of them. */
  downloads: string;
  /** `cache/apt/`: packages of earlier builds. */
  packages: string;
  /** `cache/helper/`: the guest's helper, compiled, by what it was made of. */
  helpers: string;
  /** `cache/build/`: trees that are being built. */
  builds: string;
  /** `cache/locks/`: one lock file for each thing that only one process may make at a time. */
  locks: string;
  /** `logs/`: what the last build of each name printed. */
  logs: string;
  /** `catalog.yaml`: the user's own entries. */
  catalog: string;
}

export function imagePaths(home: string): ImagePaths {
  return {
    images: join(home, "images"),
    refs: join(home, "images", "refs"),
    downloads: join(home, "cache", "downloads"),
    packages: join(home, "cache", "apt"),
    helpers: join(home, "cache", "helper"),
    builds: join(home, "cache", "build"),
    locks: join(home, "cache", "locks"),
    logs: join(home, "cache", "logs"),
    catalog: join(home, "catalog.yaml"),
  };
}

export const manifestFile = "image.json";
export const kernelFile = "vmlinuz";
export const initramfsFile = "initramfs";
export const diskFile = { raw: "disk.raw", qcow2: "disk.qcow2" } as const;

export function refFile(paths: ImagePaths, arch: Arch, name: string): string {
  return join(paths.refs, arch, `${name}.json`);
}

/** The lock of a download, by its partial file's name. */
export function pullLock(partial: string): string {
  return `pull ${partial}`;
}

/** A file that ships with this room: `catalog.yaml`, `recipes/…`, `tiny/init`. */
export function assetPath(...names: string[]): string {
  return shippedPath(["../assets", "./assets", "./images-assets"], names);
}

/** A file of guest/, which holds the helper's source and what starts it: in the checkout, or beside the bundle. */
export function guestPath(name: string): string {
  return shippedPath(["../../../guest", "./guest"], [name]);
}

function shippedPath(folders: string[], names: string[]): string {
  const candidates = folders.map((folder) => join(fileURLToPath(new URL(folder, import.meta.url)), ...names));
  return candidates.find((path) => existsSync(path)) ?? (candidates[0] as string);
}

/** The first serial port of each machine type, as Linux names it. */
export const serialConsole: Record<Arch, string> = { x86_64: "ttyS0", aarch64: "ttyAMA0" };
