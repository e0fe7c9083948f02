import type { DatabaseSync } from "node:sqlite";
import type { BatchResult, Committer } from "../commit/committer.ts";
import type { Kind, OperationOf, Results } from "../commit/operations.ts";
import type { Findings, QueryKind, QueryOf } from "../read/queries.ts";
import type { Reader } from "../read/reader.ts";
import { type Backend, settle, Waiting } from "./backend.ts";

/**
 * Committer and reader on the caller's own thread: for tests that inject file system, index or
 * schedule. `defer` is when the operations that wait become a batch.
 */
export class LocalBackend implements Backend {
  readonly opened: Backend["opened"];
  readonly #committer: Committer;
  readonly #reader: Reader;
  readonly #close: () => void;
  readonly #onRemoved: (blobs: string[]) => void;
  readonly #defer: (work: () => void) => void;
  readonly #waiting = new Waiting();
  #isCleaning = false;
  #isClosed = false;

  constructor(given: {
    opened: Backend["opened"] & { committer: Committer; index: DatabaseSync; close(): void };
    reader: Reader;
    onRemoved: (blobs: string[]) => void;
    defer: (work: () => void) => void;
  }) {
    this.opened = given.opened;
    this.#committer = given.opened.committer;
    this.#reader = given.reader;
    this.#close = given.opened.close;
    this.#onRemoved = given.onRemoved;
    this.#defer = given.defer;
  }

  commit<K extends Kind>(operation: OperationOf<K>): Promise<Results[K]> {
    const promise = this.#waiting.add(operation);
    if (this.#waiting.size === 1) this.#defer(() => this.#flush());
    return promise as Promise<Results[K]>;
  }

  #flush(): void {
    const { operations, settlers } = this.#waiting.take();
    let result: BatchResult;
    try {
      result = this.#committer.run(operations);
    } catch (error) {
      for (const settler of settlers) settler.reject(error);
      return;
    }
    settle(settlers, result);
    this.#onRemoved(result.removedBlobs);
    this.#clean();
  }

  #clean(): void {
    if (this.#isCleaning || !this.#committer.needsCleaning) return;
    this.#isCleaning = true;
    this.#defer(() => {
      this.#isCleaning = false;
      if (this.#isClosed) return;
      this.#committer.clean();
      this.#clean();
    });
  }

  async read<K extends QueryKind>(query: QueryOf<K>): Promise<Findings[K]> {
    return this.#reader.read(query);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#waiting.size > 0) this.#flush();
    this.#isClosed = true;
    this.#reader.close();
    this.#close();
  }
}
