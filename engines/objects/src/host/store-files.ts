import { rmSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import { Committer, type CommitterOptions } from "../commit/committer.ts";
import type { Files } from "../files.ts";
import { IndexWriter } from "../index/apply.ts";
import { openIndex, type Synchronous } from "../index/schema.ts";
import { Journal } from "../journal/journal.ts";
import type { StorePaths } from "../paths.ts";
import { type Recovery, recover } from "../recover.ts";

export interface OpenOptions
  extends Pick<CommitterOptions, "segmentBytes" | "minimumPartBytes" | "reserveBytes"> {
  synchronous: Synchronous;
  /** Leaves damaged records of the journal out instead of failing. */
  salvage?: boolean;
}

/** Where the index is: opened again after `discard`, it is empty. */
export interface IndexSource {
  open(): DatabaseSync | undefined;
  discard(): void;
}

export interface OpenedCommitter {
  committer: Committer;
  index: DatabaseSync;
  recovery: Recovery;
  /** Why the index was thrown away and made anew, where it was. */
  rebuilt?: string;
  close(): void;
}

/** Opens journal and index, brings the index up to the journal, and gives the committer. */
export function openCommitter(
  given: {
    files: Files;
    paths: StorePaths;
    source: IndexSource;
    random: (bytes: number) => Uint8Array;
    log: (message: string) => void;
  },
  options: OpenOptions,
): OpenedCommitter {
  const { files, paths, source, random, log } = given;
  const journal = Journal.open(files, paths, random);
  let index: DatabaseSync | undefined;
  try {
    const opened = openUsableIndex(source, journal);
    index = opened.index;
    const recovery = recover(journal, index, {
      directory: paths.directory,
      ...(options.salvage === undefined ? {} : { salvage: options.salvage }),
    });
    const committer = new Committer({ ...options, files, paths, journal, index, random, log });
    return {
      committer,
      index,
      recovery,
      ...(opened.rebuilt === undefined ? {} : { rebuilt: opened.rebuilt }),
      close: () => {
        journal.close();
        opened.index.close();
      },
    };
  } catch (error) {
    journal.close();
    index?.close();
    throw error;
  }
}

/** An index that fits the journal; an empty one where the present one does not. */
function openUsableIndex(source: IndexSource, journal: Journal): { index: DatabaseSync; rebuilt?: string } {
  const why = (() => {
    let index: DatabaseSync | undefined;
    try {
      index = source.open();
      if (index === undefined) return "it has another version's format";
      const { segment } = new IndexWriter(index).applied();
      const oldest = journal.segments[0] as number;
      if (segment === 0 && !journal.isEmpty) return { index, rebuilt: "there was none" };
      if (segment !== 0 && segment < oldest) {
        index.close();
        return "it is older than the journal";
      }
      return { index };
    } catch (error) {
      if (!isMalformed(error)) throw error;
      if (index?.isOpen === true) index.close();
      return (error as Error).message;
    }
  })();
  if (typeof why !== "string") return why;
  source.discard();
  return { index: source.open() as DatabaseSync, rebuilt: why };
}

/** SQLITE_CORRUPT, SQLITE_NOTADB, or tables that are not ours. */
function isMalformed(error: unknown): boolean {
  const code = (error as { errcode?: number }).errcode;
  return code !== undefined && [1, 11, 26].includes(code & 0xff);
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
