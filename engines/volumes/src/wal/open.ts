import { dirname, join } from "node:path";
import type { AsyncFile } from "@skep/objects/files";
import { fail } from "../errors.ts";
import { findGaps, type WalGap } from "./gaps.ts";
import type { WalOptions } from "./options.ts";
import { nothingScanned, type Scanned, scanSegment } from "./scan.ts";
import {
  headerBytes,
  readHeader,
  removeFile,
  Segment,
  type SegmentHeader,
  segmentName,
  segmentNumbers,
} from "./segment.ts";
import { slotContext } from "./slot.ts";

export { inspectWal, type SegmentReport, setAside } from "./inspect.ts";

/** What a volume's log goes on from. */
export interface OpenedSegments {
  segments: Segment[];
  nextNumber: number;
  sequence: bigint;
  since: bigint;
  gaps: WalGap[];
}

interface Opened {
  segment: Segment;
  path: string;
  header: SegmentHeader | null;
  scanned: Scanned;
}

/**
 * Replays a log's segments, and has them on stable storage when it resolves. To sync them would not be
 * enough: where an earlier process saw a sync fail, or died before it looked, the kernel may still show what
 * it could not write and count it as written. So what was read is written once more, in its place, and synced.
 */
export async function openSegments(options: WalOptions): Promise<OpenedSegments> {
  const { files, directory } = options;
  await files.mkdir(directory);
  await files.syncDirectory(dirname(directory));
  const numbers = segmentNumbers(await files.readdir(directory));
  const opened: Opened[] = [];
  try {
    for (const number of numbers) {
      const one = await openOne(options, number);
      if (one !== undefined) opened.push(one);
    }
    for (const { segment } of opened) await segment.file.datasync();
    await files.syncDirectory(directory);
  } catch (error) {
    for (const { segment } of opened) await segment.release();
    throw error;
  }
  const gaps = findGaps(opened, options.sequence);
  for (const gap of gaps) {
    const what = gap.wasSynced ? "that were synced are damaged or missing" : "were never synced and are lost";
    options.log?.(`${gap.path}: ${gap.slots} writes before the one at ${gap.position + gap.bytes} ${what}`);
  }
  let sequence = options.sequence ?? 0n;
  for (const { scanned } of opened) if (scanned.sequence > sequence) sequence = scanned.sequence;
  // Once more whole segments can say of themselves what a gap in them means; new ones know of this one.
  const latest = opened.findLast(({ header }) => header !== null)?.header;
  const since = gaps.length === 0 && latest != null ? latest.since : sequence;
  const nextNumber = Math.max((numbers.at(-1) ?? -1) + 1, options.firstSegment);
  return { segments: opened.map(({ segment }) => segment), nextNumber, sequence, since, gaps };
}

/** Undefined where it is deleted, or left alone. */
async function openOne(options: WalOptions, number: number): Promise<Opened | undefined> {
  const { files, volume, word, key } = options;
  const path = join(options.directory, segmentName(number));
  const file = await files.open(path, "write");
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
    const context = slotContext(header?.salt ?? 0n, number, key);
    const sizeBytes = await file.size();
    const scanned =
      header === undefined ? nothingScanned : await replayAndRewrite(options, number, file, context);
    if (scanned.wholeBytes < sizeBytes) {
      const what = header === undefined ? "without a header" : "of writes that did not end";
      options.log?.(`${path}: ${sizeBytes - scanned.wholeBytes} bytes ${what} are skipped`);
    }
    isKept = true;
    const segment = new Segment({ number, path, file, context, bytes: sizeBytes });
    return { segment, path, header: header ?? null, scanned };
  } finally {
    if (!isKept) await file.close();
  }
}

async function replayAndRewrite(
  options: WalOptions,
  number: number,
  file: AsyncFile,
  context: Segment["context"],
): Promise<Scanned> {
  const header = Buffer.alloc(headerBytes);
  await file.read(header, 0);
  await file.write([header], 0);
  const rewrite = (bytes: Buffer, position: number) => file.write([bytes], position);
  return scanSegment(file, number, context, options.sequence, options.replay, rewrite);
}
