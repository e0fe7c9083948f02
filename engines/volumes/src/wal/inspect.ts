import { dirname, join } from "node:path";
import type { AsyncFile, Files } from "@skep/objects/files";
import { findGaps, type WalGap } from "./gaps.ts";
import { nothingScanned, type Scanned, scanSegment } from "./scan.ts";
import { readHeader, type SegmentHeader, segmentName, segmentNumbers } from "./segment.ts";

/** Looking at a log that is not open, and setting it aside. */

export interface SegmentReport extends Scanned {
  number: number;
  path: string;
  sizeBytes: number;
  /** Null where it is torn. */
  header: SegmentHeader | null;
  /** What is missing before slots of this segment, of the log that its header names. */
  gaps: WalGap[];
}

/**
 * What is in a log's directory, whosoever it is; changes nothing, and needs no key. Numbers up to `sequence`
 * (the manifest's `SeqNum`) are not missed.
 */
export async function inspectWal(given: {
  files: Files;
  directory: string;
  sequence?: bigint;
}): Promise<SegmentReport[]> {
  const reports: SegmentReport[] = [];
  for (const number of segmentNumbers(await namesIn(given.files, given.directory))) {
    const path = join(given.directory, segmentName(number));
    const file = await given.files.open(path, "read");
    try {
      reports.push(await reportOn(file, number, path));
    } finally {
      await file.close();
    }
  }
  const logs = Map.groupBy(reports, ({ header }) => `${header?.volume} ${header?.word}`);
  for (const log of logs.values()) {
    const segments = log.map((report) => ({ path: report.path, header: report.header, scanned: report }));
    for (const gap of findGaps(segments, given.sequence)) {
      log.find(({ path }) => path === gap.path)?.gaps.push(gap);
    }
  }
  return reports;
}

async function reportOn(file: AsyncFile, number: number, path: string): Promise<SegmentReport> {
  const header = (await readHeader(file, path)) ?? null;
  const sizeBytes = await file.size();
  if (header === null) return { number, path, sizeBytes, header, gaps: [], ...nothingScanned };
  const context = { salt: header.salt, encrypted: header.encrypted, key: null };
  return { number, path, sizeBytes, header, gaps: [], ...(await scanSegment(file, number, context)) };
}

/**
 * Moves segments to `wal-stale-<epoch>` beside the log, which is then of nobody but a person. Returns where
 * they are.
 */
export async function setAside(given: {
  files: Files;
  directory: string;
  epoch: number;
  segments: readonly number[];
}): Promise<string> {
  const { files, directory } = given;
  const target = join(dirname(directory), `wal-stale-${given.epoch.toString(16).padStart(8, "0")}`);
  await files.mkdir(target);
  const taken = new Set(await files.readdir(target));
  for (const number of given.segments) {
    const name = segmentName(number);
    let free = name;
    for (let copy = 1; taken.has(free); copy += 1) free = `${name}.${copy}`;
    taken.add(free);
    await files.rename(join(directory, name), join(target, free));
  }
  await files.syncDirectory(target);
  await files.syncDirectory(directory);
  await files.syncDirectory(dirname(directory));
  return target;
}

async function namesIn(files: Files, directory: string): Promise<string[]> {
  try {
    return await files.readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
