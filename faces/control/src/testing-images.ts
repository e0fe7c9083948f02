/** One image, that nothing can be made of. */
import { SkepError } from "@skep/base";
import type { StoredImage } from "@skep/images";
import type { ImageEngine } from "./engines.ts";

const tiny: StoredImage = {
  name: "tiny",
  digest: "sha256:0",
  arch: "x86_64",
  directory: "/nowhere",
  disk: null,
  kernel: "/nowhere/vmlinuz",
  initramfs: "/nowhere/initramfs",
  kernelArguments: "",
  user: "root",
  ssh: false,
  source: "made here",
  createdAt: new Date(0).toISOString(),
  storedBytes: 1,
};

/** One image, which every pull and build yields. */
export class OneImage implements ImageEngine {
  async list(): Promise<StoredImage[]> {
    return [tiny];
  }

  async get(ref: string) {
    if (ref !== tiny.name && ref !== tiny.digest) {
      throw new SkepError("IMAGE_NOT_FOUND", `image "${ref}" does not exist`, { status: 404 });
    }
    return tiny;
  }

  async manifest() {
    return { version: 1 };
  }

  async pull(): Promise<StoredImage> {
    return tiny;
  }

  async build(): Promise<StoredImage> {
    return tiny;
  }

  async import(): Promise<StoredImage> {
    return tiny;
  }

  async remove(): Promise<void> {}

  async prune() {
    return { removed: [], freedBytes: 0 };
  }

  async catalog() {
    return [];
  }

  async verify(): Promise<unknown> {
    return { ok: true };
  }
}
