import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { ensureDirectory, exists, isErrno, syncDirectory, syncFile } from "@skep/base";
import { fail } from "./errors.ts";
import { dropKept } from "./kept.ts";
import { readManifest } from "./manifest.ts";
import {
  isStateId,
  newStateId,
  stateDirectory,
  statesDirectory,
  temporaryPrefix,
  temporaryStateDirectory,
} from "./paths.ts";

/** Makes a new state's temporary directory, 0700, and `$SKEP_HOME/states` where it is missing. */
export async function beginState(
  home: string,
  id = newStateId(),
): Promise<{ id: string; directory: string }> {
  await ensureDirectory(statesDirectory(home));
  const directory = temporaryStateDirectory(home, id);
  await mkdir(directory, { mode: 0o700 });
  return { id, directory };
}

/**
 * The one point at which a state comes to be: every file is fsynced, the directory renamed to its name,
 * and that made durable. Gives the new path. On failure the temporary directory stays as it is; STATE_*
 * where its manifest is none, or the state is there already.
 */
export async function commitState(home: string, id: string): Promise<string> {
  const temporary = temporaryStateDirectory(home, id);
  const directory = stateDirectory(home, id);
  await readManifest(temporary);
  for (const name of await readdir(temporary)) await syncFile(join(temporary, name));
  await syncDirectory(temporary);
  if (await exists(directory))
    throw fail("STATE_UNWRITABLE", { state: id, why: `${directory} exists already` });
  await rename(temporary, directory);
  await syncDirectory(statesDirectory(home));
  // The first state's directory of states is new itself.
  await syncDirectory(home);
  return directory;
}

/** Removes a state, whole or temporary, so that nothing half is ever visible. Nothing happens where it is gone. */
export async function removeState(home: string, id: string): Promise<void> {
  const temporary = temporaryStateDirectory(home, id);
  const directory = stateDirectory(home, id);
  if (await exists(directory)) {
    await rm(temporary, { recursive: true, force: true });
    await rename(directory, temporary);
    await syncDirectory(statesDirectory(home));
  }
  await rm(temporary, { recursive: true, force: true });
  await dropKept(home, id);
}

/** Ids of the whole states and of the temporary ones that are there, sorted. */
export async function listStates(home: string): Promise<{ states: string[]; temporary: string[] }> {
  const names = await readdir(statesDirectory(home)).catch((error: unknown) => {
    if (isErrno(error, "ENOENT")) return [];
    throw error;
  });
  const states = names.filter(isStateId).sort();
  const temporary = names
    .filter((name) => name.startsWith(temporaryPrefix))
    .map((name) => name.slice(temporaryPrefix.length))
    .filter(isStateId)
    .sort();
  return { states, temporary };
}
