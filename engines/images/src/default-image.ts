import type { Arch } from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import { buildImage } from "./build.ts";
import { readCatalog } from "./catalog.ts";
import type { ImagePaths } from "./paths.ts";
import { defaultLimits, pullImage } from "./pull.ts";
import { builtInRecipes } from "./recipe.ts";
import { hostArch } from "./requirements.ts";
import type { StoredImage } from "./types.ts";

interface Way {
  verb: "built" | "pulled";
  make(): Promise<StoredImage>;
  /** Codes of errors after which the other way is tried. */
  failures: ReadonlySet<string>;
}

const notBuilt = new Set([
  "SOURCE_MISSING",
  "KEYRING_MISSING",
  "BUILD_TOOL_MISSING",
  "BUILD_SUBIDS_MISSING",
  "BUILD_NAMESPACES",
  "BUILD_EMULATION",
  "BUILD_FAILED",
]);

/** Not to be had, or not as its publisher made it. */
const notPulled = new Set([
  "OFFLINE",
  "DOWNLOAD_FAILED",
  "DOWNLOAD_TOO_LARGE",
  "CATALOG_UNKNOWN",
  "CHECKSUM_ABSENT",
  "CHECKSUM_MISMATCH",
]);

/** Where it can be built as well: then minutes of waiting would be for nothing. */
const impatient = {
  ...defaultLimits,
  answerTimeoutMs: 5000,
  stallTimeoutMs: 20_000,
  attempts: 2,
  retryDelayMs: 200,
};

/**
 * Makes the image of machines for which none was named. It is built where that can be done: publishers' images have
 * no helper, so that their machines are not forked with an identity of their own and never begin from a template.
 * It is pulled first where it is one of the user's own catalog, or of another architecture, whose programs a build
 * would have to emulate. The work's notes tell which, and why.
 */
export async function makeDefaultImage(paths: ImagePaths, arch: Arch, work: Work): Promise<StoredImage> {
  const { defaultName: name, ownNames } = readCatalog(paths);
  const build: Way = {
    verb: "built",
    make: () => buildImage(paths, { name, arch }, work),
    failures: notBuilt,
  };
  const isBuiltIn = builtInRecipes().includes(name);
  const pullsFirst = ownNames.has(name) || arch !== hostArch;
  const pull: Way = {
    verb: "pulled",
    make: async () => {
      const limits = isBuiltIn && pullsFirst ? impatient : defaultLimits;
      const image = await pullImage(paths, { name, arch }, work, limits);
      const helper = isBuiltIn ? `; one that can be forked: skep image build ${name} --arch ${arch}` : "";
      work.note(`image ${name} (${arch}): ${image.source}${helper}`);
      return image;
    },
    failures: notPulled,
  };
  if (!isBuiltIn) return await pull.make();
  const [first, second] = pullsFirst ? [pull, build] : [build, pull];
  try {
    return await first.make();
  } catch (error) {
    if (work.signal.aborted || !(error instanceof SkepError) || !first.failures.has(error.code)) throw error;
    work.note(`image ${name} (${arch}) cannot be ${first.verb}: ${error.message}`);
    return await second.make();
  }
}
