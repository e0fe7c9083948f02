import { crc32 } from "node:zlib";
import type { Applied } from "../index/apply.ts";
import type { Mutation, Place } from "../index/rows.ts";
import type { Journal } from "../journal/journal.ts";

export interface BatchRecord {
  mutations: Mutation[];
  inline?: Uint8Array;
  /** Of bytes that are moved as they are; otherwise it is reckoned. */
  inlineCrc?: number;
}

/** The records of a batch while they are made. */
export class OpenBatch {
  readonly #journal: Journal;
  readonly #apply: (mutation: Mutation, place: Place) => void;
  readonly buffers: Uint8Array[] = [];
  readonly #inline = new Map<number, Uint8Array>();
  readonly start: number;
  position: number;
  /** Of the next record. */
  sequence: number;

  constructor(journal: Journal, sequence: number, apply: (mutation: Mutation, place: Place) => void) {
    this.#journal = journal;
    this.#apply = apply;
    this.sequence = sequence;
    this.start = journal.position;
    this.position = journal.position;
  }

  add({ mutations, inline, inlineCrc = inline === undefined ? 0 : crc32(inline) }: BatchRecord): void {
    const record = this.#journal.encode({
      sequence: this.sequence,
      batchStart: this.start,
      json: JSON.stringify(mutations),
      ...(inline === undefined ? {} : { inline }),
      inlineCrc,
    });
    const total = record.length + (inline?.length ?? 0);
    const place: Place = {
      segment: this.#journal.headSegment,
      position: this.position,
      weight: weightOf(mutations, total),
      inlineAt: this.position + record.length,
      inlineCrc,
    };
    for (const mutation of mutations) this.#apply(mutation, place);
    this.buffers.push(record);
    if (inline !== undefined && inline.length > 0) {
      this.buffers.push(inline);
      this.#inline.set(place.inlineAt, inline);
    }
    this.position += total;
    this.sequence += 1;
  }

  /** The body of an object put by this batch, which is not in the file yet. */
  inlineAt(segment: number, position: number): Uint8Array | undefined {
    return segment === this.#journal.headSegment ? this.#inline.get(position) : undefined;
  }

  /** How far the journal is when the batch is in it. */
  applied(): Applied {
    return { segment: this.#journal.headSegment, position: this.position, sequence: this.sequence - 1 };
  }
}

/** Each row's share of a record, so that a segment whose rows are all dead has no live bytes. */
export function weightOf(mutations: readonly Mutation[], recordBytes: number): number {
  let puts = 0;
  for (const mutation of mutations) if ("put" in mutation) puts += 1;
  return puts === 0 ? 0 : Math.floor(recordBytes / puts);
}
