import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { SkepError } from "@skep/base";
import { type AnswerMessage, errorFrom, type Reply, type Request } from "./messages.ts";

/** A thread that answers requests in order. What is asked in one turn of the event loop goes in one message. */
export class Thread<T> {
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

  constructor(name: string, data: unknown, wrap: (asked: T[]) => Request, onReply: (reply: Reply) => void) {
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
