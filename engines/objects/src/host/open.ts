import type { Files } from "../files.ts";
import type { StorePaths } from "../paths.ts";
import { Reader } from "../read/reader.ts";
import type { Backend } from "./backend.ts";
import { LocalBackend } from "./local.ts";
import { type IndexSource, indexFile, type OpenOptions, openCommitter } from "./store-files.ts";

export type { IndexSource } from "./store-files.ts";

export interface LocalOptions extends OpenOptions {
  files: Files;
  paths: StorePaths;
  random: (bytes: number) => Uint8Array;
  onRemoved: (blobs: string[]) => void;
  log: (message: string) => void;
  index?: IndexSource;
  defer?: (work: () => void) => void;
}

export function openLocal(options: LocalOptions): Backend {
  const { files, paths, random, onRemoved, log } = options;
  const source = options.index ?? indexFile(paths.index, options.synchronous);
  const opened = openCommitter({ files, paths, source, random, log }, options);
  const reader = new Reader(files, paths, opened.index);
  return new LocalBackend({ opened, reader, onRemoved, defer: options.defer ?? setImmediate });
}
