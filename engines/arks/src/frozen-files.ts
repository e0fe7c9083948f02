import { hash, randomInt } from "node:crypto";
import { lstat, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { isErrno } from "@skep/base";
import { frozenDirectory, frozenRam } from "@skep/machines";
import { fail } from "./errors.ts";
import { type FrozenRecord, readFrozenRecord } from "./frozen-record.ts";

/** Where all frozen machines are, of every home: tmpfs, where anybody may make directories. */
export const frozenPlace = "/dev/shm";

/** systemd's documentation leaves 2147418112..2147483646 unused; machines' own are below (host-user.ts). */
const firstGid = 2_147_418_112;
const lastGid = 2_147_483_646;

/** Names of whatever is there. */
export async function frozenNames(): Promise<string[]> {
  return await readdir(frozenPlace).catch(() => []); // no such place: not Linux
}

/** Undefined where that is not the name of a frozen machine's directory. */
export function frozenId(name: string): string | undefined {
  return /^skep-frozen-(st-[0-9a-f]{17})$/.exec(name)?.[1];
}

/** What another user made is none of ours. */
export async function isOwnDirectory(path: string): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  return found?.isDirectory() === true && found.uid === process.getuid?.();
}

/** Undefined where there is none of that id; `unknown` where it is this user's, and no record says more. */
export async function whoseFrozen(
  home: string,
  id: string,
): Promise<"ours" | "theirs" | "unknown" | undefined> {
  const directory = frozenDirectory(id);
  const found = await lstat(directory).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  });
  if (found === undefined) return undefined;
  if (!(await isOwnDirectory(directory))) return "theirs";
  const record = await readFrozenRecord(directory).catch(() => undefined);
  if (record === undefined) return "unknown";
  return record.home === home ? "ours" : "theirs";
}

/** The record of one that is there, and is as it says. STATE_MEMORY. */
export async function readFrozen(id: string): Promise<FrozenRecord> {
  const path = frozenDirectory(id);
  const refuse = (why: string) => fail("STATE_MEMORY", { path, why });
  const record = await readFrozenRecord(path);
  if (record === undefined) throw refuse("it has no record");
  if (record.id !== id) throw refuse("its record is that of another one");
  const ram = await lstat(frozenRam(id)).catch(() => undefined);
  if (ram?.isFile() !== true || ram.size !== record.memoryBytes) throw refuse("its memory is not as it was");
  await readFrozenDevice(record);
  return record;
}

export async function readFrozenDevice({ id, device }: FrozenRecord): Promise<Buffer> {
  const path = join(frozenDirectory(id), "device");
  const refuse = (why: string) => fail("STATE_MEMORY", { path, why });
  const found = await lstat(path).catch(() => undefined);
  if (found?.isFile() !== true || found.size !== device.bytes) throw refuse("it is not as it was written");
  const stream = await readFile(path);
  if (hash("sha256", stream, "hex") !== device.sha256) throw refuse("its digest is not that of its record");
  return stream;
}

/** One that no other frozen machine on this host has, whichever home's. */
export async function freeGid(): Promise<number> {
  const taken = new Set<number>();
  for (const name of await frozenNames()) {
    if (frozenId(name) === undefined) continue;
    const ram = await lstat(join(frozenPlace, name, "ram")).catch(() => undefined);
    if (ram !== undefined) taken.add(ram.gid);
  }
  for (;;) {
    const gid = randomInt(firstGid, lastGid + 1);
    if (!taken.has(gid)) return gid;
  }
}
