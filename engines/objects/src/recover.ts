import type { DatabaseSync } from "node:sqlite";
import { weightOf } from "./commit/batch.ts";
import { fail } from "./errors.ts";
import { IndexWriter } from "./index/apply.ts";
import type { Mutation, Place } from "./index/rows.ts";
import type { Journal } from "./journal/journal.ts";
import { headerBytes, recordBytes } from "./journal/record.ts";
import type { ScannedRecord } from "./journal/segment.ts";

export interface Recovery {
  /** Records applied that the index did not have. */
  replayed: number;
  /** Bytes cut off that a crash had torn; no one was told of them. */
  tornBytes: number;
  /** Damaged records that were left out. */
  damaged: { segment: number; position: number; bytes: number }[];
}

/** Records in one transaction of the index while it is caught up. */
const transactionRecords = 1000;

/**
 * Brings the index up to the journal's end and cuts off what a crash has torn. With `salvage` damaged
 * records are left out; without, they are STORE_DAMAGED.
 */
export function recover(
  journal: Journal,
  index: DatabaseSync,
  options: { directory: string; salvage?: boolean },
): Recovery {
  const writer = new IndexWriter(index);
  const recovery: Recovery = { replayed: 0, tornBytes: 0, damaged: [] };
  const applied = writer.applied();
  const oldest = journal.segments[0] as number;
  const damaged = (why: string) => fail("STORE_DAMAGED", { path: options.directory, why });
  if (applied.segment > journal.headSegment) throw damaged("journal segments are missing");
  const gap = journal.segments.findIndex((number, i) => number !== oldest + i);
  if (gap !== -1 && options.salvage !== true) {
    throw damaged(`journal segment ${oldest + gap} is missing`);
  }
  let { segment, position, sequence } = applied;
  let waiting = 0;
  for (const number of journal.segments) {
    if (number < segment) continue;
    if (number > segment) position = 0;
    segment = number;
    for (const item of journal.scan(number, position)) {
      if (item.kind === "damage") {
        const bytes = item.end - item.position;
        if (!item.durable && isLastWritten(journal, number)) {
          recovery.tornBytes += bytes;
          if (number === journal.headSegment) journal.truncate(item.position);
          break;
        }
        if (options.salvage !== true) {
          throw damaged(
            `${bytes} bytes of journal segment ${number} at byte ${item.position} cannot be read`,
          );
        }
        recovery.damaged.push({ segment: number, position: item.position, bytes });
        continue;
      }
      if (waiting === 0) writer.begin();
      for (const [mutation, place] of mutationsOf(number, item)) writer.apply(mutation, place);
      position = item.position + recordBytes(item.header);
      sequence = item.header.sequence;
      recovery.replayed += 1;
      waiting += 1;
      if (waiting === transactionRecords) {
        writer.commit({ segment, position, sequence });
        waiting = 0;
      }
    }
  }
  if (waiting > 0) writer.commit({ segment, position, sequence });
  if (applied.segment === journal.headSegment && applied.position > journal.position) {
    throw damaged("the journal ends before what the index has of it");
  }
  return recovery;
}

/** No later segment has a record: a crash may have come while this one was written to. */
function isLastWritten(journal: Journal, segment: number): boolean {
  return !journal.segments.some((later) => later > segment && journal.scan(later).next().done !== true);
}

/** What a record says, and where. */
function mutationsOf(segment: number, record: ScannedRecord): [Mutation, Place][] {
  const mutations = JSON.parse(record.json) as Mutation[];
  const { position, header } = record;
  const place: Place = {
    segment,
    position,
    weight: weightOf(mutations, recordBytes(header)),
    inlineAt: position + headerBytes + header.jsonBytes,
    inlineCrc: header.inlineCrc,
  };
  return mutations.map((mutation) => [mutation, place]);
}
