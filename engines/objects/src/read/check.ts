import { crc32 } from "node:zlib";
import type { Files } from "../files.ts";
import type { Mutation } from "../index/rows.ts";
import { decodeHeader, headerBytes, isWhole, recordBytes } from "../journal/record.ts";
import { readSegmentHeader, scanSegment } from "../journal/segment.ts";
import type { StorePaths } from "../paths.ts";
import type { JournalDamage, RecordPlace } from "./queries.ts";

/** For each row what is wrong with its record in the journal; undefined where it is whole. */
export function checkRecords(
  files: Files,
  paths: StorePaths,
  places: readonly RecordPlace[],
): (string | undefined)[] {
  return places.map((place) => {
    const path = paths.segment(place.segment);
    try {
      const file = files.openSync(path, "read");
      try {
        const mark = readSegmentHeader(file, path);
        if (mark === undefined) return "its journal segment has no header";
        const head = Buffer.alloc(headerBytes);
        file.read(head, place.position);
        const header = decodeHeader(mark, head);
        if (header === undefined) return "there is no record of it in the journal";
        const record = Buffer.alloc(recordBytes(header));
        file.read(record, place.position);
        if (!isWhole(record, header)) return "its record in the journal is not what was written";
        return checkRecord(record, headerBytes + header.jsonBytes, place);
      } finally {
        file.close();
      }
    } catch (error) {
      return (error as Error).message;
    }
  });
}

function checkRecord(record: Buffer, bodyAt: number, place: RecordPlace): string | undefined {
  const mutations = JSON.parse(record.toString("utf8", headerBytes, bodyAt)) as Mutation[];
  const row = mutations.find(
    (one) =>
      "put" in one &&
      one.put === "version" &&
      one.row.bucket === place.bucket &&
      one.row.key === place.key &&
      one.row.sequence === place.sequence,
  );
  if (row === undefined || !("row" in row) || !("etag" in row.row) || row.row.etag !== place.etag) {
    return "index and journal say different things of it";
  }
  if (!place.isInline) return undefined;
  const isSame =
    place.position + bodyAt === place.inlineAt && crc32(record.subarray(bodyAt)) === place.inlineCrc;
  return isSame ? undefined : "its bytes in the journal are not what was written";
}

/** What of a segment cannot be read though it was on stable storage. */
export function checkSegment(files: Files, paths: StorePaths, segment: number): JournalDamage[] {
  const path = paths.segment(segment);
  const file = files.openSync(path, "read");
  try {
    const damages: JournalDamage[] = [];
    for (const item of scanSegment(file, path, 0)) {
      if (item.kind === "damage" && item.durable) {
        damages.push({ segment, position: item.position, bytes: item.end - item.position });
      }
    }
    return damages;
  } finally {
    file.close();
  }
}
