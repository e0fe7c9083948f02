import type { Answer, BatchResult } from "../commit/committer.ts";
import type { Kind, Operation, OperationOf, Results } from "../commit/operations.ts";
import type { Findings, QueryKind, QueryOf } from "../read/queries.ts";
import type { Recovery } from "../recover.ts";

/** Committer and reader as the main thread sees them, wherever they run. */
export interface Backend extends AsyncDisposable {
  readonly opened: { recovery: Recovery; rebuilt?: string };
  commit<K extends Kind>(operation: OperationOf<K>): Promise<Results[K]>;
  read<K extends QueryKind>(query: QueryOf<K>): Promise<Findings[K]>;
}

/** Operations that wait for the committer, and what becomes of their answers. */
export class Waiting {
  #operations: Operation[] = [];
  #settlers: PromiseWithResolvers<unknown>[] = [];

  add(operation: Operation): Promise<unknown> {
    const settler = Promise.withResolvers<unknown>();
    this.#operations.push(operation);
    this.#settlers.push(settler);
    return settler.promise;
  }

  get size(): number {
    return this.#operations.length;
  }

  take(): { operations: Operation[]; settlers: PromiseWithResolvers<unknown>[] } {
    const taken = { operations: this.#operations, settlers: this.#settlers };
    this.#operations = [];
    this.#settlers = [];
    return taken;
  }
}

export function settle(settlers: readonly PromiseWithResolvers<unknown>[], result: BatchResult): void {
  for (const [i, settler] of settlers.entries()) {
    const answer = result.answers[i] as Answer;
    if ("error" in answer) settler.reject(answer.error);
    else settler.resolve(answer.value);
  }
}
