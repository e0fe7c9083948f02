import type { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { isErrno, type SkepError, toSkepError } from "@skep/base";
import { fail } from "../errors.ts";
import type { Files, SyncFile } from "../files.ts";
import { type Applied, IndexWriter } from "../index/apply.ts";
import { type IndexedVersion, IndexQueries } from "../index/queries.ts";
import type { BucketRow, Mutation } from "../index/rows.ts";
import type { Journal } from "../journal/journal.ts";
import type { StorePaths } from "../paths.ts";
import type { Kind, Operation, OperationOf } from "./operations.ts";
import type { Plan, Planning } from "./plan.ts";
import { planCreateBucket, planDeleteBucket, planUpdateBucket } from "./plan-buckets.ts";
import { planAbort, planComplete, planCreateUpload, planPutPart } from "./plan-uploads.ts";
import { planDelete, planPut, planSetAttributes } from "./plan-versions.ts";

export interface CommitterOptions {
  files: Files;
  paths: StorePaths;
  journal: Journal;
  index: DatabaseSync;
  clock: () => number;
  random: (bytes: number) => Uint8Array;
  segmentBytes: number;
  minimumPartBytes: number;
  /** What must stay free on the disk; below it only what frees space is taken. */
  reserveBytes: number;
}

export type Answer = { value: unknown } | { error: SkepError };

export interface BatchResult {
  /** One for each operation, in their order. */
  answers: Answer[];
  /** To be unlinked: nothing points to them any more. */
  removedBlobs: string[];
}

const plans: { [K in Kind]: (planning: Planning, operation: OperationOf<K>) => Plan } = {
  createBucket: planCreateBucket,
  updateBucket: planUpdateBucket,
  deleteBucket: planDeleteBucket,
  put: planPut,
  delete: planDelete,
  setAttributes: planSetAttributes,
  createUpload: planCreateUpload,
  putPart: planPutPart,
  completeUpload: planComplete,
  abortUpload: planAbort,
};

/** These take space; the others free some, or take next to nothing. */
const growing: ReadonlySet<Kind> = new Set(["createBucket", "put", "createUpload", "putPart"]);

/**
 * The one writer of journal and index. A batch of operations is checked and applied in one transaction
 * of the index, written to the journal at once, made durable, and only then committed and answered.
 */
export class Committer {
  readonly #options: CommitterOptions;
  readonly #writer: IndexWriter;
  readonly #queries: IndexQueries;
  #buckets = new Map<number, BucketRow>();
  #sequence: number;
  /** Why nothing can be written until the store is opened again. */
  #broken: unknown;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#writer = new IndexWriter(options.index);
    this.#queries = new IndexQueries(options.index);
    this.#sequence = this.#writer.applied().sequence + 1;
    this.#loadBuckets();
  }

  #loadBuckets(): void {
    this.#buckets = new Map(this.#queries.buckets().map((row) => [row.id, row]));
  }

  run(operations: readonly Operation[]): BatchResult {
    if (this.#broken !== undefined) return this.#refuseAll(operations, this.#broken);
    const { journal } = this.#options;
    const batch = new OpenBatch(journal, this.#sequence);
    const answers: Answer[] = [];
    try {
      if (journal.position >= this.#options.segmentBytes) {
        journal.roll();
        batch.restart();
      }
      const full = this.#isFull();
      this.#writer.begin();
      for (const operation of operations) answers.push(this.#perform(operation, batch, full));
      if (batch.buffers.length === 0) {
        this.#writer.rollback();
        return { answers, removedBlobs: [] };
      }
      journal.append({ start: batch.start, buffers: batch.buffers, end: batch.position });
    } catch (error) {
      return this.#undo(operations, error);
    }
    try {
      this.#writer.commit(batch.applied());
    } catch (error) {
      return this.#takeBack(operations, batch.start, error);
    }
    this.#sequence = batch.sequence;
    return { answers, removedBlobs: batch.removedBlobs };
  }

  #perform(operation: Operation, batch: OpenBatch, full: boolean): Answer {
    let plan: Plan;
    try {
      if (full && growing.has(operation.kind)) throw this.#fullError();
      const make = plans[operation.kind] as (planning: Planning, operation: Operation) => Plan;
      plan = make(this.#planning(batch.sequence), operation);
    } catch (error) {
      return { error: toSkepError(error) };
    }
    if (plan.mutations.length > 0) {
      batch.add(plan, (mutation, place) => {
        this.#writer.apply(mutation, place);
        this.#remember(mutation);
      });
    }
    return { value: plan.result };
  }

  #planning(sequence: number): Planning {
    const { clock, random, minimumPartBytes } = this.#options;
    return {
      queries: this.#queries,
      buckets: this.#buckets,
      sequence,
      minimumPartBytes,
      now: clock,
      random,
      readInline: (version) => this.#readInline(version),
    };
  }

  #remember(mutation: Mutation): void {
    if ("put" in mutation) {
      if (mutation.put === "bucket") this.#buckets.set(mutation.row.id, mutation.row);
    } else if (mutation.remove === "bucket") this.#buckets.delete(mutation.id);
  }

  #readInline(version: IndexedVersion): Uint8Array {
    const { files, paths } = this.#options;
    let file: SyncFile | undefined;
    const buffer = new Uint8Array(version.sizeBytes);
    try {
      file = files.openSync(paths.segment(version.segment), "read");
      if (file.read(buffer, version.inlineAt) === buffer.length && crc32(buffer) === version.inlineCrc) {
        return buffer;
      }
    } finally {
      file?.close();
    }
    const bucket = this.#buckets.get(version.bucket)?.name;
    throw fail("OBJECT_DAMAGED", { bucket, key: version.key, why: "its bytes in the journal are others" });
  }

  #isFull(): boolean {
    const { files, paths, reserveBytes } = this.#options;
    return reserveBytes > 0 && files.freeBytesSync(paths.directory) < reserveBytes;
  }

  #fullError(cause?: unknown): SkepError {
    return fail("STORE_FULL", { path: this.#options.paths.directory }, { cause });
  }

  /** The journal is as it was before the batch, unless taking back failed as well. */
  #undo(operations: readonly Operation[], error: unknown): BatchResult {
    try {
      this.#writer.rollback();
      this.#loadBuckets();
    } catch (second) {
      this.#broken = second;
    }
    return this.#refuseAll(operations, error);
  }

  /** The journal has the batch and the index could not take it. */
  #takeBack(operations: readonly Operation[], start: number, error: unknown): BatchResult {
    try {
      this.#options.journal.truncate(start);
    } catch (second) {
      this.#broken = second;
    }
    return this.#undo(operations, error);
  }

  #refuseAll(operations: readonly Operation[], error: unknown): BatchResult {
    const refusal = isFullDisk(error) ? this.#fullError(error) : toSkepError(error);
    return { answers: operations.map(() => ({ error: refusal })), removedBlobs: [] };
  }

  applied(): Applied {
    return this.#writer.applied();
  }
}

/** The file system's word for it, or SQLite's. */
export function isFullDisk(error: unknown): boolean {
  return (
    isErrno(error, "ENOSPC") || isErrno(error, "EDQUOT") || (error as { errcode?: number }).errcode === 13
  );
}

/** The records of a batch while they are made. */
class OpenBatch {
  readonly #journal: Journal;
  readonly buffers: Uint8Array[] = [];
  readonly removedBlobs: string[] = [];
  sequence: number;
  start: number;
  position: number;

  constructor(journal: Journal, sequence: number) {
    this.#journal = journal;
    this.sequence = sequence;
    this.start = journal.position;
    this.position = journal.position;
  }

  /** After the journal has a new head. */
  restart(): void {
    this.start = this.#journal.position;
    this.position = this.start;
  }

  add(plan: Plan, apply: (mutation: Mutation, place: import("../index/rows.ts").Place) => void): void {
    const { inline, mutations } = plan;
    const inlineCrc = inline === undefined ? 0 : crc32(inline);
    const record = this.#journal.encode({
      sequence: this.sequence,
      batchStart: this.start,
      json: JSON.stringify(mutations),
      ...(inline === undefined ? {} : { inline }),
      inlineCrc,
    });
    const total = record.length + (inline?.length ?? 0);
    const puts = mutations.filter((mutation) => "put" in mutation).length;
    const place = {
      segment: this.#journal.headSegment,
      position: this.position,
      weight: puts === 0 ? 0 : Math.floor(total / puts),
      inlineAt: this.position + record.length,
      inlineCrc,
    };
    for (const mutation of mutations) apply(mutation, place);
    this.buffers.push(record);
    if (inline !== undefined && inline.length > 0) this.buffers.push(inline);
    this.position += total;
    this.sequence += 1;
    if (plan.removedBlobs !== undefined) this.removedBlobs.push(...plan.removedBlobs);
  }

  applied(): Applied {
    return { segment: this.#journal.headSegment, position: this.position, sequence: this.sequence - 1 };
  }
}
