import { dirname, join } from "node:path";
import type { AsyncFile, Files } from "@skep/objects/files";
import { fail } from "../errors.ts";
import {
  readHeader,
  removeFile,
  type Scanned,
  Segment,
  type SegmentHeader,
  scanSegment,
  segmentName,
  segmentNumbers,
} from "./segment.ts";
import type { WalOptions } from "./wal.ts";

/** What a directory of segments holds: to go on with it, to look at it, or to set it aside. */

export async function openSegments(
  options: WalOptions,
): Promise<{ segments: Segment[]; nextNumber: number; sequence: bigint }> {
  const { files, directory } = options;
  await files.mkdir(directory);
  await files.syncDirectory(dirname(directory));
  const numbers = segmentNumbers(await files.readdir(directory));
  const segments: Segment[] = [];
  let sequence = options.sequence ?? 0n;
  try {
    for (const number of numbers) {
      const opened = await openOne(options, number);
      if (opened === undefined) continue;
      segments.push(opened.segment);
      if (opened.sequence > sequence) sequence = opened.sequence;
    }
    // What a killed process had acknowledged was not synced perhaps; the next flush counts on it.
    for (const segment of segments) await segment.file.datasync();
    await files.syncDirectory(directory);
  } catch (error) {
    for (const segment of segments) await segment.release();
    throw error;
  }
  const last = numbers.at(-1) ?? -1;
  return { segments, nextNumber: Math.max(last + 1, options.firstSegment), sequence };
}

/** Undefined where it is deleted, or left alone. */
async function openOne(
  options: WalOptions,
  number: number,
): Promise<{ segment: Segment; sequence: bigint } | undefined> {
  const { files, volume, word, key } = options;
  const path = join(options.directory, segmentName(number));
  const file = await files.open(path, "read");
  let isKept = false;
  try {
    const header = await readHeader(file, path);
    const isOurs = header?.volume === volume && header.word === word && header.number === number;
    if (header !== undefined && !isOurs) {
      options.log?.(`${path} is not of this volume's log as it is now: it stays as it is`);
      return undefined;
    }
    if (number < options.firstSegment) {
      await removeFile(files, path);
      return undefined;
    }
    if (header !== undefined && header.encrypted !== (key !== null)) {
      const why = header.encrypted ? "it is encrypted, the volume is not" : "it is not encrypted";
      throw fail("VOLUME_DAMAGED", { id: volume, object: path, why });
    }
    const salt = header?.salt ?? 0n;
    const encrypted = key !== null;
    const context = { salt, encrypted, key: key?.segmentKey(salt, number) ?? null };
    const sizeBytes = await file.size();
    let scanned: Scanned = { wholeBytes: 0, slots: 0, sequence: 0n };
    if (header !== undefined) scanned = await scanSegment(file, number, context, options.replay);
    if (scanned.wholeBytes < sizeBytes) {
      options.log?.(
        `${path}: ${sizeBytes - scanned.wholeBytes} bytes of writes that did not end are skipped`,
      );
    }
    isKept = true;
    return {
      segment: new Segment({ number, path, file, context, bytes: sizeBytes }),
      sequence: scanned.sequence,
    };
  } finally {
    if (!isKept) await file.close();
  }
}

export interface SegmentReport extends Scanned {
  number: number;
  path: string;
  sizeBytes: number;
  /** Null where it is torn. */
  header: SegmentHeader | null;
}

/** What is in a log's directory, whosoever it is; changes nothing, and needs no key. */
export async function inspectWal(given: { files: Files; directory: string }): Promise<SegmentReport[]> {
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
  return reports;
}

async function reportOn(file: AsyncFile, number: number, path: string): Promise<SegmentReport> {
  const header = (await readHeader(file, path)) ?? null;
  const sizeBytes = await file.size();
  if (header === null) return { number, path, sizeBytes, header, wholeBytes: 0, slots: 0, sequence: 0n };
  const context = { salt: header.salt, encrypted: header.encrypted, key: null };
  return { number, path, sizeBytes, header, ...(await scanSegment(file, number, context)) };
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
