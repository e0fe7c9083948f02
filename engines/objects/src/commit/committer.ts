import type { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { isErrno, type SkepError, toSkepError } from "@skep/base";
import { fail } from "../errors.ts";
import type { Files, SyncFile } from "../files.ts";
import { IndexWriter } from "../index/apply.ts";
import { type IndexedVersion, IndexQueries } from "../index/queries.ts";
import type { BucketRow, Mutation } from "../index/rows.ts";
import type { Journal } from "../journal/journal.ts";
import type { StorePaths } from "../paths.ts";
import { OpenBatch } from "./batch.ts";
import { Cleaning } from "./cleaning.ts";
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
  random: (bytes: number) => Uint8Array;
  segmentBytes: number;
  minimumPartBytes: number;
  /** What must stay free on the disk; below it only what frees space is taken. */
  reserveBytes: number;
  log: (message: string) => void;
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
  readonly #cleaning: Cleaning;
  #cleaningFailed = false;
  #sequence: number;
  /** Why nothing can be written until the store is opened again. */
  #broken: unknown;

  constructor(options: CommitterOptions) {
    this.#options = options;
    this.#writer = new IndexWriter(options.index);
    this.#queries = new IndexQueries(options.index);
    this.#sequence = this.#writer.applied().sequence + 1;
    this.#cleaning = new Cleaning(options.journal, this.#writer);
    this.#loadBuckets();
  }

  #loadBuckets(): void {
    this.#buckets = new Map(this.#queries.buckets().map((row) => [row.id, row]));
  }

  run(operations: readonly Operation[]): BatchResult {
    const answers: Answer[] = [];
    const removedBlobs: string[] = [];
    try {
      const full = this.#isFull();
      this.#write((batch) => {
        for (const operation of operations) answers.push(this.#perform(operation, batch, full, removedBlobs));
        return batch.buffers.length > 0;
      });
      this.#cleaningFailed = false;
      return { answers, removedBlobs };
    } catch (error) {
      const refusal = isFullDisk(error) ? this.#fullError(error) : toSkepError(error);
      return { answers: operations.map(() => ({ error: refusal })), removedBlobs: [] };
    }
  }

  /** Whether `clean` has something to do. */
  get needsCleaning(): boolean {
    return this.#broken === undefined && !this.#cleaningFailed && this.#cleaning.isDue();
  }

  /** One bounded step of giving back the journal's dead space. */
  clean(): void {
    let isDone = false;
    try {
      this.#write((batch) => {
        isDone = this.#cleaning.step(batch);
        return isDone || batch.buffers.length > 0;
      });
      if (isDone) this.#options.journal.removeOldest();
    } catch (error) {
      // The journal is as before. It is tried again after the next batch that could be written.
      this.#cleaningFailed = true;
      this.#cleaning.restart();
      this.#options.log(`cleaning the journal failed: ${(error as Error).message}`);
    }
  }

  /**
   * Index and journal take all that `fill` adds to the batch, durably, or nothing of it. `fill` says
   * whether there is anything to keep.
   */
  #write(fill: (batch: OpenBatch) => boolean): void {
    if (this.#broken !== undefined) throw this.#broken;
    const { journal, segmentBytes } = this.#options;
    let batch: OpenBatch;
    try {
      if (journal.position >= segmentBytes) journal.roll();
      this.#writer.begin();
      batch = new OpenBatch(journal, this.#sequence, (mutation, place) => {
        this.#writer.apply(mutation, place);
        this.#remember(mutation);
      });
      if (!fill(batch)) {
        this.#writer.rollback();
        return;
      }
      if (batch.buffers.length > 0) journal.append(batch);
    } catch (error) {
      this.#rollBack();
      throw error;
    }
    try {
      this.#writer.commit(batch.applied());
    } catch (error) {
      // The journal has what the index could not take.
      this.#breakUnless(() => journal.truncate(batch.start));
      this.#rollBack();
      throw error;
    }
    this.#sequence = batch.sequence;
  }

  #rollBack(): void {
    this.#breakUnless(() => {
      this.#writer.rollback();
      this.#loadBuckets();
    });
    if (this.#options.journal.failure !== undefined) this.#broken = this.#options.journal.failure;
  }

  #breakUnless(repair: () => void): void {
    try {
      repair();
    } catch (error) {
      this.#broken ??= error;
    }
  }

  #perform(operation: Operation, batch: OpenBatch, full: boolean, removedBlobs: string[]): Answer {
    let plan: Plan;
    try {
      if (full && growing.has(operation.kind)) throw this.#fullError();
      const make = plans[operation.kind] as (planning: Planning, operation: Operation) => Plan;
      plan = make(this.#planning(batch, operation.now), operation);
    } catch (error) {
      return { error: toSkepError(error) };
    }
    if (plan.mutations.length > 0) batch.add(plan);
    if (plan.removedBlobs !== undefined) removedBlobs.push(...plan.removedBlobs);
    return { value: plan.result };
  }

  #planning(batch: OpenBatch, now: number): Planning {
    const { random, minimumPartBytes } = this.#options;
    return {
      queries: this.#queries,
      buckets: this.#buckets,
      sequence: batch.sequence,
      minimumPartBytes,
      now,
      random,
      readInline: (version) => batch.inlineAt(version.segment, version.inlineAt) ?? this.#readInline(version),
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
}

/** The file system's word for it, or SQLite's. */
export function isFullDisk(error: unknown): boolean {
  return (
    isErrno(error, "ENOSPC") || isErrno(error, "EDQUOT") || (error as { errcode?: number }).errcode === 13
  );
}
