import type { Clock, Limits } from "./types.ts";

/** A request of that many bytes counts once more. */
const requestBytes = 256 * 1024;
/** What may be spent at once after a pause. */
const burstMs = 100;

interface Waiting {
  bytes: number;
  go: () => void;
}

/**
 * Holds requests to so many a second and so many bytes a second, in the order in which they came. Each moves
 * the time on at which the next one may begin.
 */
export class Throttle {
  readonly #clock: Clock;
  readonly #ending: AbortSignal;
  #limits: Limits;
  #waiting: Waiting[] = [];
  #isRunning = false;
  #changed = new AbortController();
  #operationsAt = 0;
  #bytesAt = 0;

  constructor(clock: Clock, limits: Limits, ending: AbortSignal) {
    this.#clock = clock;
    this.#limits = limits;
    this.#ending = ending;
  }

  change(limits: Limits): void {
    this.#limits = limits;
    this.#operationsAt = this.#bytesAt = 0;
    this.#changed.abort();
    this.#changed = new AbortController();
  }

  /** Undefined where it may begin at once. The signal's reason where it is aborted first. */
  enter(bytes: number, signal?: AbortSignal): Promise<void> | undefined {
    const { iops, bytesPerSecond } = this.#limits;
    if (!this.#isRunning) {
      if (iops === null && bytesPerSecond === null) return undefined;
      if (this.#wait() <= 0) {
        this.#spend(bytes);
        return undefined;
      }
    }
    return this.#enqueue(bytes, signal);
  }

  async #enqueue(bytes: number, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.#ending.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { bytes, go: resolve };
    this.#waiting.push(waiting);
    const signals = signal === undefined ? [this.#ending] : [this.#ending, signal];
    const abort = () => {
      this.#waiting = this.#waiting.filter((one) => one !== waiting);
      reject(signals.find(({ aborted }) => aborted)?.reason as Error);
    };
    for (const one of signals) one.addEventListener("abort", abort, { once: true });
    if (!this.#isRunning) void this.#run();
    try {
      await promise;
    } finally {
      for (const one of signals) one.removeEventListener("abort", abort);
    }
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.length > 0) {
      const waitMs = this.#wait();
      if (waitMs > 0) {
        const signal = AbortSignal.any([this.#changed.signal, this.#ending]);
        await this.#clock.sleep(waitMs, signal).catch(() => undefined);
        continue;
      }
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#spend(next.bytes);
      next.go();
    }
    this.#isRunning = false;
  }

  /** Milliseconds until the next one may begin. */
  #wait(): number {
    return Math.max(this.#operationsAt, this.#bytesAt) - this.#clock.now();
  }

  #spend(bytes: number): void {
    const { iops, bytesPerSecond } = this.#limits;
    const earliest = this.#clock.now() - burstMs;
    const operations = Math.max(1, Math.ceil(bytes / requestBytes));
    if (iops !== null)
      this.#operationsAt = Math.max(this.#operationsAt, earliest) + (operations * 1000) / iops;
    if (bytesPerSecond !== null)
      this.#bytesAt = Math.max(this.#bytesAt, earliest) + (bytes * 1000) / bytesPerSecond;
  }
}
