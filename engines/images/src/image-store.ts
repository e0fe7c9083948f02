import type { Arch, ImageBuild } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { buildImage } from "./build.ts";
import { fail } from "./errors.ts";
import { type ImagePaths, imagePaths } from "./paths.ts";
import { hostArch } from "./requirements.ts";
import { loadImage, readRefs, storedDigests } from "./store.ts";
import type { StoredImage } from "./types.ts";

/** The base images of one `$SKEP_HOME`. Several processes may use the same one at once. */
export class ImageStore {
  readonly home: string;
  readonly #paths: ImagePaths;

  constructor({ home }: { home: string }) {
    this.home = home;
    this.#paths = imagePaths(home);
  }

  /** Every image that has a name, by name and architecture. */
  list(): StoredImage[] {
    return readRefs(this.#paths)
      .flatMap((ref) => loadImage(this.#paths, ref.digest, ref) ?? [])
      .sort((a, b) => (a.name === b.name ? (a.arch < b.arch ? -1 : 1) : a.name < b.name ? -1 : 1));
  }

  /**
   * The image of a name or digest (with or without `sha256:`; eight digits or more of it do). A name
   * that two architectures have means the host's, unless `arch` says another.
   */
  find(ref: string, arch?: Arch): StoredImage | undefined {
    const named = this.list().filter((image) => image.name === ref && (arch === undefined || image.arch === arch));
    if (named.length > 0) return named.find((image) => image.arch === hostArch) ?? named[0];
    const prefix = ref.replace(/^sha256:/, "");
    if (!/^[0-9a-f]{8,64}$/.test(prefix)) return undefined;
    const refs = readRefs(this.#paths);
    const matches = storedDigests(this.#paths)
      .filter((digest) => digest.startsWith(`sha256:${prefix}`))
      .flatMap((digest) => loadImage(this.#paths, digest, refs.find((one) => one.digest === digest)) ?? [])
      .filter((image) => arch === undefined || image.arch === arch);
    if (matches.length > 1) {
      throw fail("IMAGE_AMBIGUOUS", { ref, matches: matches.map((one) => one.digest.slice(0, 19)).join(", ") });
    }
    return matches[0];
  }

  get(ref: string, arch?: Arch): StoredImage {
    const image = this.find(ref, arch);
    if (image === undefined) {
      throw fail("IMAGE_NOT_FOUND", { ref: ref.slice(0, 100), where: arch === undefined ? "" : ` for ${arch}` });
    }
    return image;
  }

  async build(request: ImageBuild & { sourceDateEpoch?: number }, work: Work): Promise<StoredImage> {
    return await buildImage(this.#paths, request, work);
  }
}
