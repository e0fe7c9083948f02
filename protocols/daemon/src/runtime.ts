import { chmod, lstat, mkdir, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { isErrno } from "@skep/base";
import { fail } from "./errors.ts";

const socketPathLimit = 104;

/**
 * Makes the runtime directory and its parent, or refuses one that somebody else could have laid
 * out: a symlink, another owner, writable by others. Root's may be passed through (0711), since
 * QEMU runs there as other users; what lies in it has its own modes.
 */
export async function prepareRuntime(directory: string, home: string): Promise<void> {
  const uid = process.getuid?.() ?? 0;
  const mode = uid === 0 ? 0o711 : 0o700;
  if (dirname(directory) === home) await chmod(home, mode);
  else await makeParent(dirname(directory), uid, mode);
  await makeOwn(directory, mode);
  await check(directory, uid);
  await chmod(directory, mode);
}

async function makeParent(parent: string, uid: number, mode: number): Promise<void> {
  await mkdir(dirname(parent), { recursive: true });
  await makeOwn(parent, mode);
  // A sticky directory such as /tmp may be the parent: others cannot rename what is ours in it.
  const { mode: found, uid: owner } = await lstat(parent);
  if ((found & 0o1000) !== 0 && owner === 0) return;
  await check(parent, uid);
}

async function makeOwn(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode });
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
  }
}

async function check(path: string, uid: number): Promise<void> {
  const found = await lstat(path);
  const why = found.isSymbolicLink()
    ? "it is a symbolic link"
    : !found.isDirectory()
      ? "it is not a directory"
      : found.uid !== uid
        ? `it belongs to uid ${found.uid}`
        : (found.mode & 0o022) !== 0
          ? "others may write in it"
          : undefined;
  if (why !== undefined) throw fail("RUNTIME_UNSAFE", { path, why });
}

/** Removes the socket of a dead daemon; call under the home's lock only. */
export async function clearSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) >= socketPathLimit) {
    throw fail("SOCKET_PATH_LONG", { path, limit: socketPathLimit - 1 });
  }
  await rm(path, { force: true });
}
