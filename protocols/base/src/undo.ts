/**
 * Steps to take back when a longer operation fails. Push an undo after each step that succeeded,
 * call `keep()` at the end; disposal before that runs the steps in reverse order.
 *
 * ```ts
 * await using undo = new Undo();
 * await mkdir(directory);
 * undo.push(() => rm(directory, { recursive: true }));
 * …
 * undo.keep();
 * ```
 */
export class Undo implements AsyncDisposable {
  #steps: (() => unknown)[] = [];

  push(step: () => unknown): void {
    this.#steps.push(step);
  }

  keep(): void {
    this.#steps = [];
  }

  /** Runs every step even when one fails; the failures come out together. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (const step of this.#steps.reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    this.#steps = [];
    if (failures.length > 0) throw new AggregateError(failures, "could not undo everything");
  }
}
