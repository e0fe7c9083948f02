import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import type { MemoryRow } from "./types.ts";

/** What a thread works on. */
export interface ThreadData {
  /** Read: the memory to be packed or copied, or the pack. */
  from: string;
  /** Written: the memory, or its copy; null where chunks are packed or only verified. */
  into: string | null;
  memoryBytes: number;
}

/** Bytes to copy as they are. */
export interface Piece {
  /** Where they begin in what is read. */
  from: number;
  /** Where they begin in what is written. */
  to: number;
  bytes: number;
}

/** Chunks to pack, ascending, or rows to unpack, whose ranges follow each other; at least one. */
export type Job = { pack: number[] } | { unpack: MemoryRow[] } | { copy: Piece[] };

export interface PackedBatch {
  rows: Omit<MemoryRow, "offset">[];
  /** What is stored of them, one after another. */
  bytes: Uint8Array;
}

export type Answer =
  | { packed: PackedBatch }
  | { damages: { row: MemoryRow; why: string }[] }
  | { copied: true }
  | { error: { message: string; code: string | undefined } };

/** Beside compression there is little to do; more than two gain little, and take the guests' cores. */
const mostThreads = 2;
/** Chunks that one job holds: with all jobs that wait, some 30 MiB. */
const chunksPerJob = 4;

/** Copies of one job: small enough that all threads end at about the same time. */
const copiedPerJob = 4 * 1_048_576;

/** To a thread: what it works on from now on, or a job. */
export type Order = { open: ThreadData | null } | Job;

/** One thread, which answers its jobs in their order. */
class Thread {
  readonly #worker: Worker;
  readonly #waiting: PromiseWithResolvers<Answer>[] = [];
  #failure: unknown;

  constructor() {
    const end = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const worker = new Worker(new URL(`./memory-thread.${end}`, import.meta.url), { name: "memory-thread" });
    const fail = (error: unknown) => {
      this.#failure ??= error;
      for (const answer of this.#waiting.splice(0)) answer.reject(this.#failure);
    };
    worker.on("message", (answer: Answer) => this.#waiting.shift()?.resolve(answer));
    worker.on("error", fail);
    worker.on("exit", () => fail(new Error("a thread for guest memory has ended")));
    this.#worker = worker;
  }

  get load(): number {
    return this.#waiting.length;
  }

  get hasFailed(): boolean {
    return this.#failure !== undefined;
  }

  open(data: ThreadData): void {
    this.#worker.ref();
    this.#worker.postMessage({ open: data } satisfies Order);
  }

  /** It does not keep the process from ending. */
  close(): void {
    this.#worker.postMessage({ open: null } satisfies Order);
    this.#worker.unref();
  }

  ask(job: Job): Promise<Answer> {
    const answer = Promise.withResolvers<Answer>();
    answer.promise.catch(() => undefined); // whoever awaits it may have failed before
    if (this.#failure !== undefined) answer.reject(this.#failure);
    else {
      this.#waiting.push(answer);
      this.#worker.postMessage(job satisfies Order);
    }
    return answer.promise;
  }

  /** Until it has done what it was asked. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#waiting.map(({ promise }) => promise));
  }

  /** Once it has settled: Node (24.21) dies of a thread that is ended while it makes a decompressor. */
  async end(): Promise<void> {
    await this.settle();
    await this.#worker.terminate();
  }
}

/** Threads that wait for work: to start two of them takes longer than to copy the memory of a small guest. */
export class IdleThreads implements AsyncDisposable {
  readonly #threads: Thread[] = [];

  take(): Thread | undefined {
    return this.#threads.pop();
  }

  async give(thread: Thread): Promise<void> {
    await thread.settle();
    if (thread.hasFailed || this.#threads.length === mostThreads) return await thread.end();
    thread.close();
    this.#threads.push(thread);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.splice(0).map((thread) => thread.end()));
  }
}

/** Threads that take jobs in turn. One that fails fails all that is asked of it. */
export class MemoryThreads implements AsyncDisposable {
  readonly #threads: Thread[];
  readonly #idle: IdleThreads | undefined;

  /** @param idle where they are from, and go back to; without it they are started, and ended. */
  constructor({ from, into, memoryBytes }: ThreadData, idle?: IdleThreads) {
    const count = Math.min(mostThreads, availableParallelism());
    this.#idle = idle;
    this.#threads = Array.from({ length: count }, () => {
      const thread = idle?.take() ?? new Thread();
      thread.open({ from, into, memoryBytes });
      return thread;
    });
  }

  /**
   * Gives each job's answer to `take`, in the order of the jobs, which are drawn as threads get free.
   * Stops at the first error, or when the signal is aborted.
   */
  async perform<T extends Answer>(
    jobs: Iterable<Job>,
    signal: AbortSignal | undefined,
    take: (answer: Exclude<T, { error: unknown }>) => Promise<void> | void,
  ): Promise<void> {
    const asked: Promise<Answer>[] = [];
    const takeNext = async () => {
      const answer = (await asked.shift()) as Answer;
      signal?.throwIfAborted();
      if ("error" in answer)
        throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
      await take(answer as Exclude<T, { error: unknown }>);
    };
    signal?.throwIfAborted();
    for (const job of jobs) {
      if (asked.length >= 2 * this.#threads.length) await takeNext();
      asked.push(this.#ask(job));
    }
    while (asked.length > 0) await takeNext();
  }

  async copy(pieces: Iterable<Piece>, signal: AbortSignal | undefined): Promise<void> {
    await this.perform(copyJobs(pieces), signal, () => {});
  }

  #ask(job: Job): Promise<Answer> {
    return this.#threads.reduce((best, one) => (one.load < best.load ? one : best)).ask(job);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const threads = this.#threads.splice(0);
    await Promise.all(threads.map((thread) => this.#idle?.give(thread) ?? thread.end()));
  }
}

/** Cuts a list into jobs' parts. */
export function* inParts<T>(list: readonly T[]): Generator<T[]> {
  for (let at = 0; at < list.length; at += chunksPerJob) yield list.slice(at, at + chunksPerJob);
}

function* copyJobs(pieces: Iterable<Piece>): Generator<Job> {
  let copy: Piece[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    for (let done = 0; done < piece.bytes; ) {
      const part = Math.min(piece.bytes - done, copiedPerJob - bytes);
      copy.push({ from: piece.from + done, to: piece.to + done, bytes: part });
      done += part;
      bytes += part;
      if (bytes < copiedPerJob) continue;
      yield { copy };
      copy = [];
      bytes = 0;
    }
  }
  if (copy.length > 0) yield { copy };
}
