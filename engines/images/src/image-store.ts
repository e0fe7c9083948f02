import { readFile } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Arch, CatalogEntry, ImageBuild, ImageImport, ImagePull, Pruned } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { buildImage } from "./build.ts";
import { readCatalog } from "./catalog.ts";
import { checkFile } from "./checksums.ts";
import { makeDefaultImage } from "./default-image.ts";
import { fail } from "./errors.ts";
import { digestFile, digestText, type ImageManifest } from "./manifest.ts";
import { checkImageName, nameFromFile } from "./names.ts";
import { type ImagePaths, imagePaths, manifestFile } from "./paths.ts";
import { pruneImages } from "./prune.ts";
import { adoptDisk, givenChecksum, needRegularFile, pullImage, userOf } from "./pull.ts";
import { hostArch } from "./requirements.ts";
import { loadImage, readManifest, readRefs, removeImage, removeRef, storedDigests } from "./store.ts";
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
    const named = this.list().filter(
      (image) => image.name === ref && (arch === undefined || image.arch === arch),
    );
    if (named.length > 0) return named.find((image) => image.arch === hostArch) ?? named[0];
    const prefix = ref.replace(/^sha256:/, "");
    if (!/^[0-9a-f]{8,64}$/.test(prefix)) return undefined;
    const refs = readRefs(this.#paths);
    const matches = storedDigests(this.#paths)
      .filter((digest) => digest.startsWith(`sha256:${prefix}`))
      .flatMap(
        (digest) =>
          loadImage(
            this.#paths,
            digest,
            refs.find((one) => one.digest === digest),
          ) ?? [],
      )
      .filter((image) => arch === undefined || image.arch === arch);
    if (matches.length > 1) {
      throw fail("IMAGE_AMBIGUOUS", {
        ref,
        matches: matches.map((one) => one.digest.slice(0, 19)).join(", "),
      });
    }
    return matches[0];
  }

  get(ref: string, arch?: Arch): StoredImage {
    const image = this.find(ref, arch);
    if (image === undefined) {
      throw fail("IMAGE_NOT_FOUND", {
        ref: ref.slice(0, 100),
        where: arch === undefined ? "" : ` for ${arch}`,
      });
    }
    return image;
  }

  /** What `image.json` says, with the digest of every file. */
  manifest(image: StoredImage): ImageManifest {
    return readManifest(this.#paths, image.digest) ?? this.#gone(image.name);
  }

  async pull(request: ImagePull, work: Work): Promise<StoredImage> {
    return await pullImage(this.#paths, request, work);
  }

  async build(request: ImageBuild & { sourceDateEpoch?: number }, work: Work): Promise<StoredImage> {
    return await buildImage(this.#paths, request, work);
  }

  /** Takes a disk of this host into the store; the file is copied and stays. */
  async import(request: ImageImport, work: Work): Promise<StoredImage> {
    const { path } = request;
    const name = request.name === undefined ? nameFromFile(basename(path)) : checkImageName(request.name);
    await needRegularFile(path);
    if (request.sha256 !== undefined) await checkFile(path, path, givenChecksum(request.sha256), work.signal);
    const user = request.user ?? userOf(this.#paths, basename(path));
    const source = `imported from ${basename(path)}`;
    return await adoptDisk(this.#paths, path, { name, arch: request.arch ?? hostArch, user, source }, work);
  }

  /**
   * Takes a name away, and the image where no other name means it. Refused while a machine stands on it.
   * `usedBy` holds the machines' names by digest.
   */
  async remove(
    ref: string,
    arch: Arch | undefined,
    usedBy: ReadonlyMap<string, readonly string[]>,
  ): Promise<void> {
    const image = this.get(ref, arch);
    const machines = usedBy.get(image.digest) ?? [];
    if (machines.length > 0) throw fail("IMAGE_IN_USE", { name: image.name, machines: machines.join(", ") });
    const refs = readRefs(this.#paths).filter((one) => one.digest === image.digest);
    const byName = refs.filter((one) => one.name === ref && one.arch === image.arch);
    const going = byName.length > 0 ? byName : refs;
    for (const one of going) await removeRef(this.#paths, one.arch, one.name);
    if (going.length === refs.length) await removeImage(this.#paths, image.digest);
  }

  /**
   * Removes what nobody needs: images without a name, left-overs, partial downloads, kept packages; with
   * `all` named images too. What `inUse` has (a set or map of digests) stays.
   */
  async prune(inUse: { has(digest: string): boolean }, all = false): Promise<Pruned> {
    return await pruneImages(this.#paths, inUse, all);
  }

  catalog(): CatalogEntry[] {
    const present = new Set(this.list().map((image) => `${image.name} ${image.arch}`));
    return readCatalog(this.#paths).images.map(({ name, arch, url, user, verification }) => ({
      name,
      arch,
      url,
      user,
      verification,
      present: present.has(`${name} ${arch}`),
    }));
  }

  /** The image of a machine for which none was named. */
  async ensureDefault(arch: Arch, work: Work): Promise<StoredImage> {
    const present = this.find(readCatalog(this.#paths).defaultName, arch);
    return present?.arch === arch ? present : await makeDefaultImage(this.#paths, arch, work);
  }

  /** Recomputes every digest of an image; what differs is listed. */
  async verify(ref: string): Promise<{ ok: boolean; problems: string[] }> {
    const image = this.get(ref);
    const problems: string[] = [];
    const text = await readFile(join(image.directory, manifestFile), "utf8");
    if (digestText(text) !== image.digest) problems.push(`${manifestFile}: its digest differs`);
    const manifest = this.manifest(image);
    for (const file of [manifest.disk, manifest.kernel, manifest.initramfs]) {
      if (file === null) continue;
      const path = join(image.directory, basename(file.file));
      const digest = await digestFile(path).catch((error: Error) => error.message);
      if (digest !== file.digest)
        problems.push(`${file.file}: ${digest.startsWith("sha256:") ? "its digest differs" : digest}`);
    }
    return { ok: problems.length === 0, problems };
  }

  #gone(name: string): never {
    throw fail("IMAGE_DAMAGED", { name, why: `its ${manifestFile} is gone` });
  }
}
