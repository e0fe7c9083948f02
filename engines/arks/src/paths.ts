import { join } from "node:path";
import { newId } from "@skep/base";
import { fail } from "./errors.ts";

/** Every on-disk name of this room; FORMAT.md says what each file is. */
export interface StatePaths {
  directory: string;
  manifest: string;
  device: string;
  index: string;
  pack: string;
}

export function statesDirectory(home: string): string {
  return join(home, "states");
}

/** `$SKEP_HOME/states/<id>`: a state that is whole. STATE_ID where `id` is none. */
export function stateDirectory(home: string, id: string): string {
  return join(statesDirectory(home), checkStateId(id));
}

/** Where a state is made; what begins with `.tmp-` counts for nothing, and is removed at the next start. */
export function temporaryStateDirectory(home: string, id: string): string {
  return join(statesDirectory(home), `${temporaryPrefix}${checkStateId(id)}`);
}

export const temporaryPrefix = ".tmp-";

/** The files in the directory of a state, whole or temporary. */
export function statePaths(directory: string): StatePaths {
  return {
    directory,
    manifest: join(directory, "manifest.json"),
    device: join(directory, "device.zst"),
    index: join(directory, "memory.idx"),
    pack: join(directory, "memory.pack"),
  };
}

export function newStateId(): string {
  return newId("st");
}

export function isStateId(text: string): boolean {
  return /^st-[0-9a-f]{17}$/.test(text);
}

function checkStateId(id: string): string {
  if (!isStateId(id)) throw fail("STATE_ID", { state: id.slice(0, 80) });
  return id;
}
