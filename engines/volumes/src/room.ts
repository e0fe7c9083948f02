/** Where writes wait, in order, while the log is as large as it may become. */
export class Room {
  readonly #fits: (bytes: number) => boolean;
  /** Makes room; called when somebody begins to wait. */
  readonly #wanted: () => void;
  readonly #ending: AbortSignal;
  readonly #waiting: { bytes: number; go: () => void }[] = [];
  /** Whoever was let in last has not written yet. */
  #isEntering = false;

  constructor(fits: (bytes: number) => boolean, wanted: () => void, ending: AbortSignal) {
    this.#fits = fits;
    this.#wanted = wanted;
    this.#ending = ending;
  }

  /** Whether so much may be written now, before all that wait. */
  has(bytes: number): boolean {
    return this.#waiting.length === 0 && !this.#isEntering && this.#fits(bytes);
  }

  /** Waits for room, and does the work that takes it. */
  async enter<T>(bytes: number, work: () => T | Promise<T>): Promise<T> {
    this.#ending.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { bytes, go: resolve };
    this.#waiting.push(waiting);
    const abort = () => {
      const at = this.#waiting.indexOf(waiting);
      if (at >= 0) this.#waiting.splice(at, 1);
      reject(this.#ending.reason as Error);
    };
    this.#ending.addEventListener("abort", abort, { once: true });
    this.pump();
    try {
      await promise;
    } finally {
      this.#ending.removeEventListener("abort", abort);
    }
    let result: T | Promise<T>;
    try {
      result = await work();
    } finally {
      this.#isEntering = false;
      this.pump();
    }
    return result;
  }

  /** Room was made, perhaps. */
  pump(): void {
    const [next] = this.#waiting;
    if (next === undefined || this.#isEntering) return;
    if (!this.#fits(next.bytes)) {
      this.#wanted();
      return;
    }
    this.#isEntering = true;
    this.#waiting.shift();
    next.go();
  }
}
