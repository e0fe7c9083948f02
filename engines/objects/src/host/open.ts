import { rmSync } from "node:fs";
import type { Files } from "../files.ts";
import { openIndex, type Synchronous } from "../index/schema.ts";
import type { StorePaths } from "../paths.ts";
import { Reader } from "../read/reader.ts";
import type { Backend } from "./backend.ts";
import { LocalBackend } from "./local.ts";
import { type IndexSource, type OpenOptions, openCommitter } from "./store-files.ts";

export type { IndexSource } from "./store-files.ts";

export interface LocalOptions extends OpenOptions {
  files: Files;
  paths: StorePaths;
  clock: () => number;
  random: (bytes: number) => Uint8Array;
  onRemoved: (blobs: string[]) => void;
  log: (message: string) => void;
  index?: IndexSource;
  defer?: (work: () => void) => void;
}

export function openLocal(options: LocalOptions): Backend {
  const { files, paths, clock, random, onRemoved, log } = options;
  const source = options.index ?? indexFile(paths.index, options.synchronous);
  const opened = openCommitter({ files, paths, source, clock, random, log }, options);
  const reader = new Reader(files, paths, opened.index);
  return new LocalBackend({ opened, reader, onRemoved, defer: options.defer ?? setImmediate });
}

/** The index as a file of SQLite. */
export function indexFile(path: string, synchronous: Synchronous): IndexSource {
  return {
    open: () => openIndex(path, synchronous),
    discard: () => {
      for (const end of ["", "-wal", "-shm"]) rmSync(path + end, { force: true });
    },
  };
}
