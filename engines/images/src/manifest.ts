import { createHash } from "node:crypto";
import { createReadStream, type Stats } from "node:fs";
import type { Arch } from "@skep/api/schemas";

/** One file of an image, named by what is in it. */
export interface ImageFile {
  file: string;
  size: number;
  digest: string;
}

export interface InstalledPackage {
  name: string;
  version: string;
  arch: string;
}

/**
 * `image.json`. Its own bytes' digest is the image's digest, so it holds nothing that differs between
 * two equal images: no time of creation, no path.
 */
export interface ImageManifest {
  version: 1;
  name: string;
  arch: Arch;
  disk: (ImageFile & { format: "raw" | "qcow2"; virtualBytes: number }) | null;
  kernel: ImageFile | null;
  initramfs: ImageFile | null;
  kernelArguments: string;
  user: string;
  ssh: boolean;
  source: string;
  build?: {
    /** Digest over recipe, apt sources and architecture: an equal one need not be built again. */
    inputs: string;
    recipe: string;
    sourceDateEpoch: number;
    /** The root file system as a tar archive; the disk is made from it. */
    rootTreeDigest: string;
    kernelVersion: string;
    vmGenerationId: boolean;
    packages: InstalledPackage[];
  };
  pull?: { url: string; downloadDigest: string; verified: string };
}

export const manifestVersion = 1;

export async function digestFile(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  const stream = createReadStream(path, {
    highWaterMark: 1 << 20,
    ...(signal === undefined ? {} : { signal }),
  });
  for await (const part of stream) hash.update(part as Buffer);
  return `sha256:${hash.digest("hex")}`;
}

export function digestText(text: string): string {
  return `sha256:${createHash("sha256").update(text).digest("hex")}`;
}

/** Bytes that a sparse file really takes. */
export function allocatedBytes(stats: Stats): number {
  return stats.blocks * 512;
}
