import { rename, rm, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Arch, ImagePull } from "@skep/api/schemas";
import { formatSize, isErrno, type Work } from "@skep/base";
import { type CatalogImage, readCatalog } from "./catalog.ts";
import { type Checksum, checkFile, checksumOf, findChecksum } from "./checksums.ts";
import { type DownloadOptions, download, forget, partialPath } from "./download.ts";
import { fail } from "./errors.ts";
import { httpText, parseUrl, publicUrl } from "./http.ts";
import { inspectDisk } from "./inspect.ts";
import { withLock } from "./lock.ts";
import { digestFile } from "./manifest.ts";
import { checkImageName, nameFromFile } from "./names.ts";
import { diskFile, type ImagePaths, pullLock, refFile } from "./paths.ts";
import { hostArch } from "./requirements.ts";
import { commitImage, type Draft, loadImage, makeStaging, readManifest, readRef } from "./store.ts";
import type { StoredImage } from "./types.ts";
import { takeFile } from "./unpack.ts";

/** How patient a transfer is. */
export type TransferLimits = Omit<DownloadOptions, "directory" | "label">;

export const defaultLimits: TransferLimits = {
  limitBytes: 64 * 1024 ** 3,
  answerTimeoutMs: 15_000,
  stallTimeoutMs: 60_000,
  attempts: 5,
  retryDelayMs: 1000,
};

const checksumListBytes = 4 * 1024 * 1024;

/** What is to be pulled, from the catalog or from a URL, said in one way. */
interface Wanted {
  name: string;
  arch: Arch;
  user: string;
  url: URL;
  verified: string;
  checksum(work: Work): Promise<Checksum | undefined>;
}

/** Downloads an image of the catalog, or of a URL, checks it and keeps it under its name. */
export async function pullImage(
  paths: ImagePaths,
  request: ImagePull,
  work: Work,
  limits: TransferLimits = defaultLimits,
): Promise<StoredImage> {
  const wanted = /^[a-z]+:\/\//i.test(request.name)
    ? fromUrl(paths, request)
    : fromCatalog(readCatalog(paths).images, request, limits);
  const wait = () => work.report({ phase: `${wanted.name}: waiting for another pull of it` });
  const lock = pullLock(basename(partialPath(paths.downloads, wanted.url)));
  return await withLock(paths.locks, lock, work.signal, wait, async () => {
    work.report({ phase: `${wanted.name}: connecting to ${wanted.url.host}` });
    const checksum = await wanted.checksum(work);
    const present = request.force ? undefined : findPulled(paths, wanted, checksum);
    if (present !== undefined) return present;
    if (checksum === undefined)
      work.note(
        `nothing vouches for ${publicUrl(wanted.url)}: pulled unverified (--sha256 HEX would check it)`,
      );
    const file = await download(
      wanted.url,
      { ...limits, directory: paths.downloads, label: wanted.name },
      work,
    );
    try {
      work.report({ phase: `${wanted.name}: checking` });
      if (checksum !== undefined) await checkFile(file, publicUrl(wanted.url), checksum, work.signal);
      const url = publicUrl(wanted.url);
      const draft = {
        name: wanted.name,
        arch: wanted.arch,
        user: wanted.user,
        source: `pulled from ${url}`,
        pull: {
          url,
          downloadDigest:
            checksum === undefined
              ? await digestFile(file, work.signal)
              : `${checksum.algorithm}:${checksum.hex}`,
          verified: checksum === undefined ? "unverified" : wanted.verified,
        },
      };
      const image = await adoptDisk(paths, file, draft, work);
      await forget(file);
      return image;
    } catch (error) {
      if (!work.signal.aborted) await forget(file); // complete but not usable: nothing to resume
      throw error;
    }
  });
}

/** Copies or unpacks a disk into the store, after it was inspected. The file itself stays as it is. */
export async function adoptDisk(
  paths: ImagePaths,
  file: string,
  draft: Pick<Draft, "name" | "arch" | "user" | "source" | "pull">,
  work: Work,
): Promise<StoredImage> {
  const staging = await makeStaging(paths);
  try {
    const taken = join(staging, "taken");
    await takeFile(file, taken, draft.name, work);
    work.report({ phase: `${draft.name}: inspecting` });
    const { format, virtualBytes } = await inspectDisk(taken, basename(file), work);
    await rename(taken, join(staging, diskFile[format]));
    work.report({ phase: `${draft.name}: computing digests` });
    const disk = { file: diskFile[format], format, virtualBytes };
    const whole: Draft = { ...draft, disk, kernel: null, initramfs: null, kernelArguments: "", ssh: true };
    return await commitImage(paths, staging, whole, work.signal);
  } catch (error) {
    if (isErrno(error, "ENOSPC")) {
      throw fail(
        "DISK_REFUSED",
        {
          path: basename(file),
          why: "this host's disk is full",
          hint: "free space (skep image prune), then try again",
        },
        { cause: error },
      );
    }
    throw error;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

function fromCatalog(catalog: CatalogImage[], request: ImagePull, limits: TransferLimits): Wanted {
  const arch = request.arch ?? hostArch;
  const entry = catalog.find((one) => one.name === request.name && one.arch === arch);
  if (entry === undefined) throw fail("CATALOG_UNKNOWN", { name: request.name.slice(0, 100), arch });
  const url = parseUrl(entry.url);
  const given = request.sha256 ?? entry.sha256;
  return {
    name: checkImageName(request.as ?? entry.name),
    arch,
    user: entry.user,
    url,
    verified: request.sha256 === undefined ? entry.verification : "SHA-256 given by the user",
    async checksum(work) {
      if (given !== undefined) return givenChecksum(given);
      if (entry.checksums === undefined) return undefined;
      const list = parseUrl(entry.checksums);
      const text = await httpText(list, checksumListBytes, { ...limits, signal: work.signal });
      const file = basename(url.pathname);
      const found = findChecksum(text, file);
      if (found === undefined) throw fail("CHECKSUM_ABSENT", { url: publicUrl(list), file });
      return found;
    },
  };
}

function fromUrl(paths: ImagePaths, request: ImagePull): Wanted {
  const url = parseUrl(request.name);
  const file = decoded(basename(url.pathname));
  return {
    name: request.as === undefined ? nameFromFile(file) : checkImageName(request.as),
    arch: request.arch ?? hostArch,
    user: userOf(paths, file),
    url,
    verified: "SHA-256 given by the user",
    async checksum() {
      return request.sha256 === undefined ? undefined : givenChecksum(request.sha256);
    },
  };
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a percent sign that escapes nothing
  }
}

/** Who logs in to a disk of an unknown maker: the catalog's user of the distribution that its name begins with. */
export function userOf(paths: ImagePaths, file: string): string {
  const lower = file.toLowerCase();
  const distribution = (name: string) => name.split("-")[0] as string;
  const entry = readCatalog(paths).images.find((one) => lower.startsWith(distribution(one.name)));
  return entry?.user ?? "root";
}

export function givenChecksum(hex: string): Checksum {
  const checksum = checksumOf(hex.replace(/^sha256:/, ""));
  if (checksum?.algorithm === "sha256") return checksum;
  throw fail("CHECKSUM_MISMATCH", {
    what: "the given --sha256",
    algorithm: "form",
    actual: hex.slice(0, 80),
    expected: "64 hexadecimal digits",
  });
}

/** The image that this name means already, where it came from the same bytes. */
function findPulled(
  paths: ImagePaths,
  wanted: Wanted,
  checksum: Checksum | undefined,
): StoredImage | undefined {
  if (checksum === undefined) return undefined;
  const ref = readRef(refFile(paths, wanted.arch, wanted.name));
  if (ref === undefined) return undefined;
  const pulled = readManifest(paths, ref.digest)?.pull;
  const same = pulled?.downloadDigest === `${checksum.algorithm}:${checksum.hex}`;
  return same ? loadImage(paths, ref.digest, ref) : undefined;
}

/** For errors about a file that the user named. */
export async function needRegularFile(path: string): Promise<number> {
  const refuse = (why: string, cause?: unknown) =>
    fail("FILE_UNREADABLE", { path: path.slice(0, 300), why }, { cause });
  const stats = await stat(path).catch((error: NodeJS.ErrnoException) => {
    throw refuse(error.code === "ENOENT" ? "there is no such file" : error.message, error);
  });
  if (!stats.isFile()) throw refuse("it is not a regular file");
  if (stats.size === 0) throw refuse(`it is empty (${formatSize(0)})`);
  return stats.size;
}
