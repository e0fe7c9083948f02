import { hash } from "node:crypto";
import { lstat, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { isErrno, type SkepError } from "@skep/base";
import { fail } from "./errors.ts";
import { decodeIndex, IndexError } from "./index-codec.ts";
import { statePaths, temporaryPrefix } from "./paths.ts";
import type { Damage, MemoryIndex, MemoryRecord, MemoryRow } from "./types.ts";

/** The state whose directory this is, or shall be. */
export function stateOf(directory: string): string {
  const name = basename(directory);
  return name.startsWith(temporaryPrefix) ? name.slice(temporaryPrefix.length) : name;
}

/** Makes the error that names a part of the state in `directory`; its cause is the Damage. */
export function damaged(directory: string, object: string, why: string): SkepError {
  const damage: Damage = { object, why };
  return fail("STATE_DAMAGED", { state: stateOf(directory), ...damage }, { cause: damage });
}

/** Looks at one file before it is opened: a pipe would never end, and a link leads elsewhere. */
export async function checkStoredFile(
  directory: string,
  path: string,
  size: { bytes: number } | { atMost: number },
): Promise<void> {
  const object = basename(path);
  const refuse = (why: string) => damaged(directory, object, why);
  const found = await lstat(path).catch((error: unknown) => {
    throw isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR") ? refuse("it is missing") : error;
  });
  if (!found.isFile()) throw refuse("it is no regular file");
  if ("bytes" in size && found.size !== size.bytes) {
    throw refuse(`it has ${found.size} bytes instead of ${size.bytes}`);
  }
  if ("atMost" in size && found.size > size.atMost) throw refuse(`it has ${found.size} bytes, too many`);
}

/** A whole small file, verified. */
export async function readStored(
  directory: string,
  path: string,
  expected: { bytes: number; sha256: string },
): Promise<Buffer> {
  await checkStoredFile(directory, path, expected);
  const bytes = await readFile(path);
  if (hash("sha256", bytes, "hex") === expected.sha256) return bytes;
  throw damaged(directory, basename(path), "its digest is not that of the manifest");
}

/** The index of a state's memory, held against what the manifest says of it. */
export async function readIndex(directory: string, memory: MemoryRecord): Promise<MemoryIndex> {
  const bytes = await readStored(directory, statePaths(directory).index, memory.index);
  const refuse = (why: string) => damaged(directory, "memory.idx", why);
  let index: MemoryIndex;
  try {
    index = decodeIndex(bytes);
  } catch (error) {
    throw error instanceof IndexError ? refuse(`it ${error.message}`) : error;
  }
  if (index.memoryBytes !== memory.bytes || index.packBytes !== memory.packBytes) {
    throw refuse("it is of another memory than the manifest's");
  }
  if (index.rows.length !== memory.chunks) throw refuse("it has not the manifest's number of chunks");
  return index;
}

/** Names a chunk for people. */
export function chunkName({ chunk, offset, length }: MemoryRow): string {
  return `memory.pack, chunk ${chunk} (bytes ${offset} to ${offset + length})`;
}
