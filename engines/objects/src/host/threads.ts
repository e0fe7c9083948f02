import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { SkepError } from "@skep/base";
import type { Kind, Operation, OperationOf, Results } from "../commit/operations.ts";
import type { Findings, Query, QueryKind, QueryOf } from "../read/queries.ts";
import type { Backend } from "./backend.ts";
import { type AnswerMessage, errorFrom, type Reply, type Request, type ThreadData } from "./messages.ts";

/** Committer and reader on a thread each. */
export class ThreadsBackend implements Backend {
  readonly opened: Backend["opened"];
  readonly #committer: Thread<Operation>;
  readonly #reader: Thread<Query>;

  private constructor(opened: Backend["opened"], committer: Thread<Operation>, reader: Thread<Query>) {
    this.opened = opened;
    this.#committer = committer;
    this.#reader = reader;
  }

  /** Index and journal are in order when it returns. */
  static async open(
    data: ThreadData,
    given: { onRemoved: (blobs: string[]) => void; log: (message: string) => void },
  ): Promise<ThreadsBackend> {
    const opening = Promise.withResolvers<Backend["opened"]>();
    const committer = new Thread<Operation>(
      "committer-thread",
      data,
      (operations) => ({ operations }),
      (reply) => {
        if ("opened" in reply) opening.resolve(reply.opened);
        else if ("failed" in reply) opening.reject(errorFrom(reply.failed));
        else if ("log" in reply) given.log(reply.log);
        else if ("batch" in reply) {
          committer.answer(reply.answers);
          given.onRemoved(reply.batch.removedBlobs);
        }
      },
    );
    committer.failed.catch(opening.reject);
    const opened = await opening.promise;
    const reader = new Thread<Query>(
      "reader-thread",
      data,
      (queries) => ({ queries }),
      (reply) => {
        if ("found" in reply) reader.answer(reply.found);
      },
    );
    return new ThreadsBackend(opened, committer, reader);
  }

  commit<K extends Kind>(operation: OperationOf<K>): Promise<Results[K]> {
    return this.#send(operation) as Promise<Results[K]>;
  }

  #send(operation: Operation): Promise<unknown> {
    if (operation.kind !== "put" || operation.inline === undefined) return this.#committer.ask(operation);
    // The caller keeps its bytes; a copy in memory of its own changes threads without another.
    const inline = new Uint8Array(operation.inline);
    return this.#committer.ask({ ...operation, inline }, inline.buffer);
  }

  read<K extends QueryKind>(query: QueryOf<K>): Promise<Findings[K]> {
    return this.#reader.ask(query) as Promise<Findings[K]>;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // The last connection of an index puts its write-ahead log away, and the reader's may not write.
    await this.#reader.close();
    await this.#committer.close();
  }
}

/** A thread that answers requests in order. What is asked in one turn of the event loop goes in one message. */
class Thread<T> {
  readonly #worker: Worker;
  readonly #wrap: (asked: T[]) => Request;
  #asked: T[] = [];
  #transfer: ArrayBuffer[] = [];
  /** Of all that was asked and not answered, in order. */
  #settlers: PromiseWithResolvers<unknown>[] = [];
  #firstSettler = 0;
  #failure: Error | undefined;
  #isClosed = false;
  /** Rejects when the thread ends of itself. */
  readonly failed: Promise<never>;

  constructor(
    name: string,
    data: ThreadData,
    wrap: (asked: T[]) => Request,
    onReply: (reply: Reply) => void,
  ) {
    this.#wrap = wrap;
    const end = import.meta.url.endsWith(".ts") ? "ts" : "js";
    this.#worker = new Worker(new URL(`./${name}.${end}`, import.meta.url), { workerData: data, name });
    this.#worker.on("message", onReply);
    const failed = Promise.withResolvers<never>();
    this.failed = failed.promise;
    this.failed.catch(() => undefined);
    const fail = (error: Error) => {
      this.#failure ??= error;
      failed.reject(this.#failure);
      for (const settler of this.#settlers.splice(this.#firstSettler)) settler.reject(this.#failure);
      this.#settlers = [];
      this.#firstSettler = 0;
    };
    this.#worker.on("error", fail);
    this.#worker.on("exit", () => fail(new SkepError("INTERNAL", `the object store is closed (${name})`)));
  }

  ask(request: T, transfer?: ArrayBuffer): Promise<unknown> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isClosed) return Promise.reject(new SkepError("INTERNAL", "the object store is closed"));
    const settler = Promise.withResolvers<unknown>();
    this.#settlers.push(settler);
    this.#asked.push(request);
    if (transfer !== undefined) this.#transfer.push(transfer);
    if (this.#asked.length === 1) setImmediate(() => this.#flush());
    return settler.promise;
  }

  #flush(): void {
    if (this.#asked.length === 0) return;
    this.#worker.postMessage(this.#wrap(this.#asked), this.#transfer);
    this.#asked = [];
    this.#transfer = [];
  }

  answer(answers: readonly AnswerMessage[]): void {
    for (const answer of answers) {
      const settler = this.#settlers[this.#firstSettler];
      this.#firstSettler += 1;
      if ("error" in answer) settler?.reject(errorFrom(answer.error));
      else settler?.resolve(answer.value);
    }
    // Taken off now and then rather than one by one, which would move the others each time.
    if (this.#firstSettler > 1000 || this.#firstSettler === this.#settlers.length) {
      this.#settlers.splice(0, this.#firstSettler);
      this.#firstSettler = 0;
    }
  }

  /** What was asked is answered first. */
  async close(): Promise<void> {
    if (this.#isClosed || this.#failure !== undefined) return;
    this.#isClosed = true;
    this.#flush();
    const exit = once(this.#worker, "exit");
    this.#worker.postMessage({ close: true } satisfies Request);
    await exit;
  }
}
