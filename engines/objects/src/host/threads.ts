import type { Kind, Operation, OperationOf, Results } from "../commit/operations.ts";
import type { Findings, Query, QueryKind, QueryOf } from "../read/queries.ts";
import type { Backend } from "./backend.ts";
import { errorFrom, type ThreadData } from "./messages.ts";
import { Thread } from "./thread.ts";

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
