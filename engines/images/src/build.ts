import { readdirSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { buildDisk } from "./disk.ts";
import { fail } from "./errors.ts";
import { helperTexts } from "./helper.ts";
import { buildInitramfs } from "./initramfs.ts";
import { withLock } from "./lock.ts";
import { digestText, type InstalledPackage } from "./manifest.ts";
import { archiveDate } from "./mmdebstrap.ts";
import { checkImageName } from "./names.ts";
import { assetPath, type ImagePaths, initramfsFile, kernelFile } from "./paths.ts";
import { builtInRecipe, parseRecipe, type Recipe } from "./recipe.ts";
import { checkBuildHost, hostArch } from "./requirements.ts";
import { type BuildSource, buildSource } from "./source.ts";
import {
  commitImage,
  type Draft,
  loadImage,
  makeStaging,
  readManifest,
  setRef,
  storedDigests,
} from "./store.ts";
import type { StoredImage } from "./types.ts";

/** What a build works with. */
export interface BuildContext {
  recipe: Recipe;
  arch: Arch;
  source: BuildSource;
  sourceDateEpoch: number;
  /** Becomes the image. */
  staging: string;
  /** Goes away with the build. */
  scratch: string;
  /** Packages of earlier builds, for this one and the next. */
  keptPackages: string;
  /** Helpers of earlier builds. */
  keptHelpers: string;
  locks: string;
  log: string;
}

/** What a build hands back; its kernel and initramfs lie in the staging directory. */
export interface BuiltFiles {
  disk: Draft["disk"];
  kernelArguments: string;
  ssh: boolean;
  rootTreeDigest: string;
  kernelVersion: string;
  vmGenerationId: boolean;
  packages: InstalledPackage[];
}

export interface BuildOptions {
  recipe?: string | undefined;
  name?: string | undefined;
  arch?: Arch | undefined;
  source?: string | undefined;
  force?: boolean | undefined;
  /** Seconds since 1970; default: `SOURCE_DATE_EPOCH`, else the date of the package archive. */
  sourceDateEpoch?: number | undefined;
}

/** Bumped when the same recipe gives another image because this code has changed. */
const builderVersion = 3;

/**
 * Builds an image from a recipe. An image of the same recipe, sources and architecture that is here
 * already is returned instead, unless `force`.
 */
export async function buildImage(paths: ImagePaths, options: BuildOptions, work: Work): Promise<StoredImage> {
  const written =
    options.recipe === undefined ? builtInRecipe(options.name ?? "debian-12") : parseRecipe(options.recipe);
  const recipe: Recipe = { ...written, name: options.name ?? written.name };
  checkImageName(recipe.name);
  const arch = options.arch ?? (recipe.arch.includes(hostArch) ? hostArch : (recipe.arch[0] as Arch));
  if (!recipe.arch.includes(arch)) {
    throw fail("ARCH_UNSUPPORTED", { name: recipe.name, arch, known: recipe.arch.join(", ") });
  }
  const source = buildSource(recipe, options.source);
  const fixedDate = options.sourceDateEpoch ?? epochOf(process.env.SOURCE_DATE_EPOCH);
  const inputs = digestText(
    JSON.stringify([
      builderVersion,
      shipped(),
      recipe.helper ? helperTexts() : null,
      recipe.name,
      recipe.text,
      arch,
      source.text,
      fixedDate ?? null,
    ]),
  );
  const wait = () => work.report({ phase: `${recipe.name}: waiting for another build of it` });
  return await withLock(paths.locks, `build ${inputs}`, work.signal, wait, async () => {
    const present = options.force ? undefined : findBuilt(paths, inputs);
    if (present !== undefined) return await setRef(paths, recipe.name, arch, present.digest);
    await checkBuildHost(recipe.type, arch, work);
    work.note(
      `image ${recipe.name} (${arch}): building it from ${source.origin}, once; it takes some minutes`,
    );
    work.report({ phase: `${recipe.name}: asking for the archive's date` });
    const scratch = await makeStaging(paths, paths.builds);
    const staging = await makeStaging(paths);
    try {
      const sourceDateEpoch = fixedDate ?? (await archiveDate(source, scratch, work));
      const log = join(paths.logs, `build-${recipe.name}-${arch}.log`);
      const kept = { keptPackages: paths.packages, keptHelpers: paths.helpers, locks: paths.locks };
      const context = { recipe, arch, source, sourceDateEpoch, staging, scratch, ...kept, log };
      const make = recipe.type === "disk" ? buildDisk : buildInitramfs;
      const built = await make(context, work);
      work.report({ phase: `${recipe.name}: computing digests` });
      return await commitImage(paths, staging, draftOf(context, built, inputs), work.signal);
    } finally {
      await rm(staging, { recursive: true, force: true });
      await rm(scratch, { recursive: true, force: true });
    }
  });
}

/** The scripts of this room that end up in images: with another text they make another image. */
function shipped(): string[] {
  return ["disk", "tiny"].flatMap((folder) =>
    readdirSync(assetPath(folder))
      .sort()
      .map((file) => readFileSync(assetPath(folder, file), "utf8")),
  );
}

function draftOf(context: BuildContext, built: BuiltFiles, inputs: string): Draft {
  const { recipe, arch, source, sourceDateEpoch } = context;
  return {
    name: recipe.name,
    arch,
    disk: built.disk,
    kernel: kernelFile,
    initramfs: initramfsFile,
    kernelArguments: built.kernelArguments,
    user: recipe.user,
    ssh: built.ssh,
    source: `built from ${recipe.distribution} ${recipe.suite}, ${source.origin}`,
    build: {
      inputs,
      recipe: recipe.text,
      sourceDateEpoch,
      rootTreeDigest: built.rootTreeDigest,
      kernelVersion: built.kernelVersion,
      vmGenerationId: built.vmGenerationId,
      packages: built.packages,
    },
  };
}

function findBuilt(paths: ImagePaths, inputs: string): StoredImage | undefined {
  const digest = storedDigests(paths).find((one) => readManifest(paths, one)?.build?.inputs === inputs);
  return digest === undefined ? undefined : loadImage(paths, digest);
}

function epochOf(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const seconds = Number(text);
  if (!Number.isSafeInteger(seconds) || seconds < 0 || seconds > 0xffff_ffff) {
    throw fail("RECIPE_INVALID", { why: `SOURCE_DATE_EPOCH "${text}" is no number of seconds since 1970` });
  }
  return seconds;
}
