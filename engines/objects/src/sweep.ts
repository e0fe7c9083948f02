import { join } from "node:path";
import type { Files } from "./files.ts";
import { isBlobName, type StorePaths } from "./paths.ts";

export interface Sweep {
  files: Files;
  paths: StorePaths;
  /** Being written, read or removed already. */
  isKnown(name: string): boolean;
  inIndex(names: string[]): Promise<boolean[]>;
  remove(name: string): Promise<void>;
}

/** Names looked up at once. */
const lookUpNames = 500;

/** The blobs that no row of the index points to, and nobody is at work on. */
export async function* orphans(sweep: Omit<Sweep, "remove">, signal?: AbortSignal): AsyncGenerator<string> {
  const { files, paths, isKnown, inIndex } = sweep;
  for (const folder of await files.readdir(paths.blobs)) {
    // What is written after this is not in the list; what was being written then is known, or in the index.
    const names = (await files.readdir(join(paths.blobs, folder))).filter(isBlobName);
    for (let at = 0; at < names.length; at += lookUpNames) {
      signal?.throwIfAborted();
      const unknown = names.slice(at, at + lookUpNames).filter((name) => !isKnown(name));
      if (unknown.length === 0) continue;
      const found = await inIndex(unknown);
      for (const [i, name] of unknown.entries()) {
        if (found[i] === false && !isKnown(name)) yield name;
      }
    }
  }
}

export async function sweepBlobs(sweep: Sweep, signal?: AbortSignal): Promise<{ removed: number }> {
  let removed = 0;
  for await (const name of orphans(sweep, signal)) {
    await sweep.remove(name);
    removed += 1;
  }
  return { removed };
}
