import type { IndexWriter } from "../index/apply.ts";
import type { Mutation } from "../index/rows.ts";
import type { Journal } from "../journal/journal.ts";
import { recordBytes } from "../journal/record.ts";
import type { OpenBatch } from "./batch.ts";

/** Bytes of a segment that one step looks at, so that operations wait only that long. */
const stepBytes = 4 * 1024 * 1024;

/**
 * Gives back the space of what was overwritten and deleted. Strictly from the oldest segment on: its
 * rows that are live are written again at the head, then its file goes. What a segment removes was put
 * in it or before, so with the oldest no removal is lost that an older record would still need.
 */
export class Cleaning {
  readonly #journal: Journal;
  readonly #writer: IndexWriter;
  /** In the oldest segment: all before it is done. */
  #position = 0;
  #segment = 0;
  /** A damaged record cannot be written again: its segment stays, and so do those after it. */
  #isBlocked = false;

  constructor(journal: Journal, writer: IndexWriter) {
    this.#journal = journal;
    this.#writer = writer;
  }

  /** More than half of the journal is dead, and not all of it is in the head. */
  isDue(): boolean {
    if (this.#isBlocked || this.#journal.segments.length < 2) return false;
    const total = this.#journal.sizeBytes;
    return this.#writer.liveBytes() * 2 < total;
  }

  /** Writes some of the oldest segment's live rows again; true when all of it is done. */
  step(batch: OpenBatch): boolean {
    const segment = this.#journal.segments[0] as number;
    if (segment !== this.#segment) {
      this.#segment = segment;
      this.#position = 0;
    }
    const start = this.#position;
    for (const item of this.#journal.scan(segment, start)) {
      if (item.kind === "damage") {
        this.#isBlocked = true;
        return false;
      }
      if (item.position - start >= stepBytes) return false;
      const live = (JSON.parse(item.json) as Mutation[]).filter((mutation) =>
        this.#writer.isLive(mutation, segment, item.position),
      );
      if (live.length > 0) {
        const hasInline = item.inline.length > 0;
        // The scan's buffer is used again for the next record; these bytes are written after it.
        const inline = hasInline ? { inline: Buffer.from(item.inline) } : {};
        batch.add({ mutations: live, ...inline, inlineCrc: item.header.inlineCrc });
      }
      this.#position = item.position + recordBytes(item.header);
    }
    this.#writer.dropSegment(segment);
    return true;
  }

  /** The step was not written: it is to be done again. */
  restart(): void {
    this.#segment = 0;
  }
}
