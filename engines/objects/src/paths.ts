import { join } from "node:path";

/** Every name in the directory of an embedded store. */
export interface StorePaths {
  readonly directory: string;
  /** Held while a process has the store open. */
  readonly lock: string;
  readonly index: string;
  readonly journal: string;
  readonly blobs: string;
  segment(number: number): string;
  blob(name: string): string;
  /** The folder of `blobs` that a blob is in: its name's first two letters. */
  blobFolder(name: string): string;
}

const segmentName = /^(\d{10})\.log$/;
const blobName = /^[0-9a-f]{32}$/;

export function storePaths(directory: string): StorePaths {
  const journal = join(directory, "journal");
  const blobs = join(directory, "blobs");
  return {
    directory,
    lock: join(directory, "lock"),
    index: join(directory, "index.db"),
    journal,
    blobs,
    segment: (number) => join(journal, `${String(number).padStart(10, "0")}.log`),
    blob: (name) => join(blobs, name.slice(0, 2), name),
    blobFolder: (name) => join(blobs, name.slice(0, 2)),
  };
}

/** The number of a segment's file, or undefined where a file is none. */
export function segmentNumber(file: string): number | undefined {
  const match = segmentName.exec(file);
  return match === null ? undefined : Number(match[1]);
}

export function isBlobName(file: string): boolean {
  return blobName.test(file);
}
