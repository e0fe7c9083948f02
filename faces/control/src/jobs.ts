import { randomBytes } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";
import type { Job } from "@skep/api/schemas";
import { type Progress, SkepError, toSkepError, type Work } from "@skep/base";
import type { FastifyBaseLogger } from "fastify";
import { fail } from "./errors.ts";
import type { Events } from "./events.ts";

/** What a job was asked to do: enough to finish or undo it after a crash. */
export interface JobRequest {
  /** `machine.create`, `image.pull`, … */
  kind: string;
  subject: string;
  request: unknown;
}

/** `createdAt` is when it was asked for; ISO 8601, UTC. */
export interface InterruptedJob extends JobRequest {
  createdAt: string;
}

/** Finishes or undoes what a job of an earlier skepd left half done. */
export type Recover = (job: InterruptedJob) => Promise<"finished" | "undone">;

interface RunningJob {
  job: Job;
  controller: AbortController;
  settled: Promise<void>;
}

type Listener = (job: Job, version: number) => void;

interface Row {
  id: string;
  kind: string;
  subject: string;
  state: Job["state"];
  request: string | null;
  notes: string;
  error: string | null;
  result: string | null;
  created_at: string;
  finished_at: string | null;
}

const diskFull = 13; // SQLITE_FULL
const keptJobs = 500;
const keptNotes = 200;
const progressIntervalMs = 100;

/**
 * Long work with progress and cancel. A job is on disk before its work begins and again when it has
 * ended; progress lives in memory.
 */
export class Jobs implements AsyncDisposable {
  readonly #database: DatabaseSync;
  readonly #events: Events;
  readonly #log: FastifyBaseLogger;
  readonly #running = new Map<string, RunningJob>();
  /** Ended, and not as such on disk. */
  readonly #unstored = new Map<string, Job>();
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #versions = new Map<string, number>();
  readonly #onFinished: (job: Job, seconds: number) => void;
  #closing = false;

  constructor(options: {
    database: DatabaseSync;
    events: Events;
    log: FastifyBaseLogger;
    onFinished?: (job: Job, seconds: number) => void;
  }) {
    this.#database = options.database;
    this.#events = options.events;
    this.#log = options.log;
    this.#onFinished = options.onFinished ?? (() => {});
  }

  /** Starts work in the background and returns its job at once. */
  start(request: JobRequest, work: (work: Work) => Promise<unknown>): Job {
    if (this.#closing) throw fail("SHUTTING_DOWN");
    const job: Job = {
      // Sortable by time, so that lists need no second key.
      id: `${Date.now().toString(36)}${randomBytes(5).toString("hex")}`,
      kind: request.kind,
      subject: request.subject,
      state: "running",
      progress: null,
      notes: [],
      error: null,
      result: null,
      createdAt: new Date().toISOString(),
      finishedAt: null,
    };
    try {
      this.#database
        .prepare("INSERT INTO jobs (id, kind, subject, state, request, created_at) VALUES (?, ?, ?, ?, ?, ?)")
        .run(
          job.id,
          job.kind,
          job.subject,
          job.state,
          JSON.stringify(request.request ?? null),
          job.createdAt,
        );
    } catch (error) {
      // With a full disk it lives in memory alone, so that what frees space can still be done.
      if ((error as { errcode?: number }).errcode !== diskFull) throw error;
      this.#log.error({ err: error, job: job.id }, "cannot store the job: the disk is full");
    }
    this.#run(job, work);
    return job;
  }

  #run(job: Job, work: (work: Work) => Promise<unknown>): void {
    const controller = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    let told = 0;
    const tellProgress = () => {
      timer = undefined;
      told = Date.now();
      this.#changed(job);
    };
    const steps: Work = {
      signal: controller.signal,
      report: (progress: Progress) => {
        job.progress = progress;
        timer ??= setTimeout(tellProgress, Math.max(0, told + progressIntervalMs - Date.now()));
      },
      note: (message: string) => {
        if (job.notes.length < keptNotes) job.notes.push(message.slice(0, 4096));
        this.#changed(job);
      },
    };
    const run = async () => {
      try {
        const result = await work(steps);
        clearTimeout(timer);
        this.#finish(job, "succeeded", { result: result ?? null });
      } catch (error) {
        clearTimeout(timer);
        const failure = toSkepError(error);
        const cancelled = controller.signal.aborted && failure.code === "CANCELLED";
        if (failure.code === "INTERNAL") this.#log.error({ err: error, job: job.id }, "job failed");
        this.#finish(job, cancelled ? "cancelled" : "failed", { error: failure.toJSON() });
      }
    };
    // Begins after `start` has returned: a job is announced as running before it can end.
    const settled = Promise.resolve().then(run);
    this.#running.set(job.id, { job, controller, settled });
    this.#changed(job);
    this.#announce(job);
  }

  #finish(job: Job, state: Job["state"], outcome: { result?: unknown; error?: Job["error"] }): void {
    Object.assign(job, { progress: null, ...outcome, state, finishedAt: new Date().toISOString() });
    try {
      this.#save(job);
    } catch (error) {
      // The disk is full, or the database gone: memory still tells the truth until the next start.
      this.#log.error({ err: error, job: job.id }, "cannot store the job's end");
      this.#unstored.set(job.id, job);
      const [oldest] = this.#unstored.keys();
      if (this.#unstored.size > keptJobs && oldest !== undefined) this.#unstored.delete(oldest);
    }
    this.#changed(job);
    this.#running.delete(job.id);
    this.#versions.delete(job.id);
    this.#announce(job);
    this.#onFinished(job, (Date.parse(job.finishedAt ?? "") - Date.parse(job.createdAt)) / 1000);
  }

  #save(job: Job): void {
    // The request may hold user-data with secrets, and is needed for recovery only.
    const { changes } = this.#database
      .prepare(
        "UPDATE jobs SET state = ?, request = NULL, notes = ?, error = ?, result = ?, finished_at = ? WHERE id = ?",
      )
      .run(
        job.state,
        JSON.stringify(job.notes),
        job.error === null ? null : JSON.stringify(job.error),
        JSON.stringify(job.result ?? null),
        job.finishedAt,
        job.id,
      );
    if (changes === 0) throw new Error("its beginning was not stored");
    this.#database
      .prepare(
        `DELETE FROM jobs WHERE state != 'running' AND id NOT IN
          (SELECT id FROM jobs WHERE state != 'running' ORDER BY finished_at DESC, rowid DESC LIMIT ${keptJobs})`,
      )
      .run();
  }

  #changed(job: Job): void {
    const version = (this.#versions.get(job.id) ?? 0) + 1;
    this.#versions.set(job.id, version);
    for (const listener of this.#listeners.get(job.id) ?? []) listener(job, version);
  }

  #announce(job: Job): void {
    const { id, kind, state, error } = job;
    this.#events.publish({
      type: `job.${state}`,
      subject: job.subject,
      data: { id, kind, ...(error === null ? {} : { error }) },
    });
  }

  get(id: string): Job {
    const held = this.#running.get(id)?.job ?? this.#unstored.get(id);
    if (held !== undefined) return held;
    const row = this.#database.prepare("SELECT * FROM jobs WHERE id = ?").get(id) as Row | undefined;
    if (row === undefined) throw fail("JOB_NOT_FOUND", { id: id.slice(0, 64) });
    return jobOf(row);
  }

  /** Newest first. */
  list(filter: { state?: Job["state"]; kind?: string; subject?: string; limit?: number } = {}): Job[] {
    const rows = this.#database
      .prepare(
        `SELECT * FROM jobs WHERE (:state IS NULL OR state = :state) AND (:kind IS NULL OR kind = :kind)
          AND (:subject IS NULL OR subject = :subject) ORDER BY created_at DESC, id DESC LIMIT :limit`,
      )
      .all({
        state: filter.state ?? null,
        kind: filter.kind ?? null,
        subject: filter.subject ?? null,
        limit: filter.limit ?? 100,
      }) as unknown as Row[];
    return rows.map((row) => this.#running.get(row.id)?.job ?? this.#unstored.get(row.id) ?? jobOf(row));
  }

  /** Asks it to stop and undo; how it ended shows in its events. */
  cancel(id: string): Job {
    const running = this.#running.get(id);
    if (running === undefined) {
      const { state } = this.get(id);
      throw fail("JOB_FINISHED", { id, state });
    }
    running.controller.abort(cancelled());
    return running.job;
  }

  /**
   * Tells the job's state now and after each change; a finished job is told once. The version
   * tells whether a resumed stream has seen it. Returns how to unsubscribe.
   */
  subscribe(id: string, listener: Listener): () => void {
    const job = this.get(id);
    if (job.state !== "running") {
      listener(job, Number.MAX_SAFE_INTEGER);
      return () => {};
    }
    const set = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, set.add(listener));
    listener(job, this.#versions.get(id) ?? 0);
    return () => {
      set.delete(listener);
      if (set.size === 0) this.#listeners.delete(id);
    };
  }

  /** Hands each job that an earlier skepd left running to `recover`; call once, at start. */
  async recover(recover: Recover): Promise<void> {
    const rows = this.#database
      .prepare("SELECT * FROM jobs WHERE state = 'running' ORDER BY created_at, id")
      .all() as unknown as Row[];
    const left = rows.filter((row) => !this.#running.has(row.id));
    for (const row of left) {
      this.#run(jobOf(row), async ({ report }) => {
        report({ phase: "cleaning up after an interruption" });
        const request: unknown = row.request === null ? null : JSON.parse(row.request);
        const { kind, subject, created_at: createdAt } = row;
        const outcome = await recover({ kind, subject, request, createdAt });
        if (outcome === "finished") return null;
        throw fail("JOB_INTERRUPTED", { outcome: "what was half done is undone" });
      });
    }
    await Promise.all(left.map((row) => this.#running.get(row.id)?.settled));
  }

  /** Cancels what runs and waits for it; what does not end in time is left for `recover`. */
  async close(graceMs = 10_000): Promise<void> {
    this.#closing = true;
    const running = [...this.#running.values()];
    for (const { controller } of running) controller.abort(cancelled());
    const grace = new Promise<void>((resolve) => setTimeout(resolve, graceMs).unref());
    await Promise.race([Promise.all(running.map(({ settled }) => settled)), grace]);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function cancelled(): SkepError {
  return new SkepError("CANCELLED", "cancelled", { status: 499 });
}

function jobOf(row: Row): Job {
  return {
    id: row.id,
    kind: row.kind,
    subject: row.subject,
    state: row.state,
    progress: null,
    notes: JSON.parse(row.notes) as string[],
    error: row.error === null ? null : (JSON.parse(row.error) as Job["error"]),
    result: row.result === null ? null : JSON.parse(row.result),
    createdAt: row.created_at,
    finishedAt: row.finished_at,
  };
}
