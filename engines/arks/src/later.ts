/**
 * What is done after its caller has been answered. Whoever disposes of it cancels that, and waits until it has ended:
 * nothing works on in a home that was closed.
 */
export class Later implements AsyncDisposable {
  readonly #over = new AbortController();
  readonly #working = new Set<Promise<void>>();

  /** `failed` is told what it fails with, unless it was cancelled. */
  run(work: (signal: AbortSignal) => Promise<void>, failed: (error: unknown) => void): void {
    const { signal } = this.#over;
    const working = work(signal)
      .catch((error: unknown) => {
        if (!signal.aborted) failed(error);
      })
      .finally(() => this.#working.delete(working));
    this.#working.add(working);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await Promise.all(this.#working);
  }
}
