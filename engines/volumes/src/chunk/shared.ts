/** One piece of work that several wait for: it is aborted when the last of them has given up. */
export class Shared<T> {
  readonly #work: Promise<T>;
  readonly #abort = new AbortController();
  #waiting = 0;
  #isOver = false;

  constructor(start: (signal: AbortSignal) => Promise<T>) {
    this.#work = start(this.#abort.signal).finally(() => {
      this.#isOver = true;
    });
    this.#work.catch(() => undefined);
  }

  /** Without waiting for it: that does not keep it going. */
  get settled(): Promise<T> {
    return this.#work;
  }

  /** Nobody may wait for it any more. */
  get isAbandoned(): boolean {
    return this.#abort.signal.aborted;
  }

  async wait(signal?: AbortSignal): Promise<T> {
    this.#waiting += 1;
    try {
      return await (signal === undefined ? this.#work : unlessAborted(this.#work, signal));
    } finally {
      this.#waiting -= 1;
      if (this.#waiting === 0 && !this.#isOver) this.#abort.abort();
    }
  }
}

function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const give = () => reject(signal.reason);
    if (signal.aborted) give();
    signal.addEventListener("abort", give, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", give));
  });
}
