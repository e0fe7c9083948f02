import { randomBytes } from "node:crypto";
import { chmod, link, lstat, lutimes, mkdir, open, rename, rm, symlink, utimes } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isErrno } from "@skep/base";
import { fail } from "../errors.ts";
import { printable } from "../style.ts";
import { defaultLimits, readTar, type TarEntry, TarError, type TarLimits } from "./reader.ts";

export interface ExtractOptions {
  /** A directory that exists; nothing outside of it is ever written. */
  target: string;
  /** The entry's place below the target, from its name's parts; undefined leaves it out. */
  place?: (parts: readonly string[], kind: TarEntry["kind"]) => readonly string[] | undefined;
  limits?: TarLimits;
  onBytes?: (count: number) => void;
  /** An entry that is not taken, though harmless: a link that leads out, a device. */
  onLeftOut?: (name: string, why: string) => void;
}

const refuse = (entry: string, why: string) =>
  fail("TAR_UNSAFE", { entry: printable(entry).slice(0, 200), why });

/** A name's parts; refuses absolute names, `..`, and what is too long. */
function partsOf(name: string, entry: string): string[] {
  if (name.startsWith("/")) throw refuse(entry, "has an absolute path");
  if (name.includes("\0") || Buffer.byteLength(name) > 4096)
    throw refuse(entry, "has a path that no file can have");
  const parts = name.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) throw refuse(entry, 'leads upwards with ".."');
  return parts;
}

/**
 * Whether a link at `parts` stays inside. `..` is taken at its beginning only: after the name of a
 * directory, which may itself be a link, it could lead anywhere.
 */
function staysInside(parts: readonly string[], linkName: string): boolean {
  if (linkName.startsWith("/") || linkName === "" || linkName.includes("\0")) return false;
  const steps = linkName.split("/").filter((step) => step !== "" && step !== ".");
  const ups = steps.findIndex((step) => step !== "..");
  const count = ups < 0 ? steps.length : ups;
  return count <= parts.length - 1 && !steps.slice(count).includes("..");
}

/**
 * Writes a hostile tar stream below a directory. Files come under a temporary name and are renamed
 * when whole; a parent that is a link is never followed; modes (without set-id bits) and times are kept.
 */
export async function extractTar(
  source: AsyncIterable<Uint8Array>,
  options: ExtractOptions,
): Promise<{ entries: number }> {
  const written = new Set<string>();
  const directories = new Map<string, { mode: number; mtimeMs: number }>();
  let entries = 0;
  const context = { ...options, written, directories };
  try {
    for await (const { entry, body } of readTar(source, options.limits ?? defaultLimits)) {
      const parts = partsOf(entry.name, entry.name);
      const place = (options.place ?? ((same) => same))(parts, entry.kind);
      if (place === undefined) continue;
      if (await extractEntry(entry, body, place, context)) entries += 1;
    }
  } catch (error) {
    if (error instanceof TarError)
      throw fail(
        "TAR_LIMIT",
        {
          what: "a tar stream that cannot be read",
          limit: `what skep takes (${error.message})`,
          hint: "try again; see: skep help cp",
        },
        { cause: error },
      );
    throw error;
  } finally {
    // Deepest first, so that a parent's time is not changed again by its children.
    for (const [path, { mode, mtimeMs }] of [...directories].sort(([a], [b]) => b.length - a.length)) {
      await chmod(path, mode & 0o1777).catch(() => {});
      await utimes(path, mtimeMs / 1000, mtimeMs / 1000).catch(() => {});
    }
  }
  return { entries };
}

type Context = ExtractOptions & {
  written: Set<string>;
  directories: Map<string, { mode: number; mtimeMs: number }>;
};

/** Makes the parents of a place; each must be a real directory. */
async function ensureParents(target: string, parts: readonly string[], entry: string): Promise<void> {
  let path = target;
  for (const part of parts.slice(0, -1)) {
    path = join(path, part);
    const info = await lstat(path).catch(() => undefined);
    if (info === undefined) await mkdir(path, { mode: 0o755 });
    else if (info.isSymbolicLink()) throw refuse(entry, "goes through a symbolic link");
    else if (!info.isDirectory()) throw refuse(entry, "goes through a file");
  }
}

async function extractEntry(
  entry: TarEntry,
  body: AsyncIterable<Uint8Array>,
  place: readonly string[],
  context: Context,
): Promise<boolean> {
  const path = join(context.target, ...place);
  if (entry.kind === "directory") {
    await ensureParents(context.target, [...place, ""], entry.name);
    if (place.length > 0) context.directories.set(path, entry);
    return true;
  }
  if (place.length === 0) throw refuse(entry.name, "is a file where the directory itself should be");
  if (entry.kind === "other") {
    context.onLeftOut?.(entry.name, "it is a device, a pipe or of an unknown kind");
    return false;
  }
  if (entry.kind === "symlink" && !staysInside(place, entry.linkName)) {
    context.onLeftOut?.(
      entry.name,
      `it is a link out of the copy, to ${printable(entry.linkName).slice(0, 100)}`,
    );
    return false;
  }
  await ensureParents(context.target, place, entry.name);
  const there = await lstat(path).catch(() => undefined);
  if (there?.isDirectory()) throw refuse(entry.name, "would replace a directory");
  const temporary = join(dirname(path), `.skep-${randomBytes(6).toString("hex")}.tmp`);
  try {
    if (entry.kind === "symlink") {
      await symlink(entry.linkName, temporary);
      await lutimes(temporary, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
    } else if (entry.kind === "hardlink") {
      await link(await hardlinkSource(entry, context), temporary);
    } else {
      await writeBody(temporary, entry, body, context);
    }
    await rename(temporary, path);
    // rename() of two names of one file does nothing, and leaves both
    await rm(temporary, { force: true });
  } catch (error) {
    await rm(temporary, { force: true });
    if (isErrno(error, "ENAMETOOLONG")) throw refuse(entry.name, "has a path that no file can have");
    throw error;
  }
  if (entry.kind !== "symlink") context.written.add(path);
  else context.written.delete(path);
  return true;
}

/** A hard link may only name a file that this stream has written. */
async function hardlinkSource(entry: TarEntry, context: Context): Promise<string> {
  const parts = partsOf(entry.linkName, entry.name);
  const place = (context.place ?? ((same) => same))(parts, "file");
  const path = place === undefined ? undefined : join(context.target, ...place);
  if (path === undefined || !context.written.has(path)) {
    throw refuse(entry.name, "is a hard link to something outside the copy");
  }
  await ensureParents(context.target, place!, entry.name);
  return path;
}

async function writeBody(
  path: string,
  entry: TarEntry,
  body: AsyncIterable<Uint8Array>,
  context: Context,
): Promise<void> {
  await using file = await open(path, "wx", 0o600);
  for await (const piece of body) {
    await file.writeFile(piece);
    context.onBytes?.(piece.length);
  }
  await file.chmod(entry.mode & 0o1777);
  await file.utimes(entry.mtimeMs / 1000, entry.mtimeMs / 1000);
}
