import { randomInt } from "node:crypto";
import { chmod, chown, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { fail } from "./errors.ts";

/**
 * Where skepd is root, each QEMU has a user of its own: a guest that breaks out of QEMU reaches
 * its own disk and nothing else. systemd's documentation leaves 1879048192..2147352576 unused.
 */
const firstUid = 1_879_048_192;
const lastUid = 2_147_352_575;

export const isRoot = process.getuid?.() === 0;

/** At random, since two machines made at once, another home's and those of damaged files are not in `taken`. */
export function allocateUid(taken: ReadonlySet<number | null>): number | null {
  if (!isRoot) return null;
  for (;;) {
    const uid = randomInt(firstUid, lastUid + 1);
    if (!taken.has(uid)) return uid;
  }
}

/** Above the users of QEMUs and what systemd keeps beside them: unused by its documentation, too. */
const firstGroup = 2_147_418_112;
const lastGroup = 2_147_483_646;

/** A group that the QEMUs of one frozen machine's copies share; null where skepd is not root. */
export function allocateGroup(taken: ReadonlySet<number | null>): number | null {
  if (!isRoot) return null;
  for (;;) {
    const gid = randomInt(firstGroup, lastGroup + 1);
    if (!taken.has(gid)) return gid;
  }
}

/** Gives a file to the machine's user; nothing to do where everything belongs to one user. */
export async function giveTo(uid: number | null, path: string, mode: number): Promise<void> {
  if (uid !== null) await chown(path, uid, uid);
  await chmod(path, mode);
}

/** Lets the machine's user pass through a directory of ours and read files there that allow it. */
export async function letThrough(uid: number | null, path: string): Promise<void> {
  if (uid === null) return;
  await chown(path, 0, uid);
  await chmod(path, 0o710);
}

/** Every directory above `path` must let other users pass. */
export async function checkPassable(path: string): Promise<void> {
  if (!isRoot) return;
  for (let directory = path; ; directory = dirname(directory)) {
    if (((await stat(directory)).mode & 0o001) === 0) throw fail("HOME_CLOSED", { path: directory });
    if (directory === dirname(directory)) return;
  }
}

/** The command that drops root for good before QEMU starts; setpriv is in util-linux. */
export function asUser(uid: number | null, groups: readonly number[], command: readonly string[]): string[] {
  if (uid === null) return [...command];
  const extra = groups.length > 0 ? `--groups=${groups.join(",")}` : "--clear-groups";
  return [
    ...["setpriv", `--reuid=${uid}`, `--regid=${uid}`, extra, "--no-new-privs"],
    ...["--inh-caps=-all", "--bounding-set=-all", "--", ...command],
  ];
}

/** The group that may open /dev/kvm. */
export async function kvmGroup(): Promise<number[]> {
  try {
    return [(await stat("/dev/kvm")).gid];
  } catch {
    return [];
  }
}
