import { randomBytes } from "node:crypto";
import { link, lstat, mkdir, open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fail, isErrno } from "./errors.ts";

/** Makes a rename or unlink in `directory` survive power loss. */
export async function syncDirectory(directory: string): Promise<void> {
  await syncFile(directory);
}

/** Makes what others wrote to a file survive power loss. */
export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Replaces `path` as a whole: temporary file, fsync, rename, fsync of the directory. */
export async function writeFileAtomic(path: string, data: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    const handle = await open(temporary, "wx", mode);
    try {
      await handle.writeFile(data);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncDirectory(dirname(path));
}

/**
 * Makes a file whole or not at all, and never in the place of another: false where there is one already,
 * as when two processes make it at once.
 */
export async function createFileAtomic(
  path: string,
  data: string | Uint8Array,
  mode = 0o600,
): Promise<boolean> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  try {
    await writeFile(temporary, data, { flag: "wx", mode, flush: true });
    await link(temporary, path);
  } catch (error) {
    if (isErrno(error, "EEXIST")) return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
  await syncDirectory(dirname(path));
  return true;
}

export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return false;
    throw error;
  }
}

/** The text of a file, or undefined where there is none. */
export async function readFileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Reads JSON with a `version` field; another version is refused by name, never rewritten. */
export async function readVersionedJson<T extends { version: number }>(
  path: string,
  supported: number,
): Promise<T> {
  const text = await readFile(path, "utf8");
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw fail("FILE_DAMAGED", { path, why: "it is not JSON" }, { cause: error });
  }
  if (typeof value !== "object" || value === null || !("version" in value)) {
    throw fail("FILE_DAMAGED", { path, why: "it has no version" });
  }
  if (value.version !== supported) throw fail("FILE_VERSION", { path, version: value.version, supported });
  return value as T;
}

export async function writeVersionedJson<T extends { version: number }>(
  path: string,
  value: T,
  mode = 0o600,
): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`, mode);
}

export async function ensureDirectory(path: string, mode = 0o700): Promise<void> {
  await mkdir(path, { recursive: true, mode });
}
