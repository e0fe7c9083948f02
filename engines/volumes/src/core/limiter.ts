import type { Clock, Limits } from "../types.ts";

const requestBytes = 256 * 1024;
/** What may be saved up while nothing is asked for. */
const burstMs = 100;

/** Holds requests back so that, over time, no more pass than the limits allow; in the order in which they came. */
export class Limiter {
  readonly #clock: Clock;
  #limits: Limits;
  /** When what has passed so far is paid for, in milliseconds. */
  #paidAt = { iops: 0, bytesPerSecond: 0 };

  constructor(clock: Clock, limits: Limits) {
    this.#clock = clock;
    this.#limits = limits;
  }

  get limits(): Limits {
    return this.#limits;
  }

  set limits(limits: Limits) {
    this.#limits = limits;
  }

  /** Undefined where the request may pass now; else when it may. */
  pass(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    const { iops, bytesPerSecond } = this.#limits;
    if (iops === null && bytesPerSecond === null) return undefined;
    const now = this.#clock.now();
    const requests = Math.max(1, Math.ceil(bytes / requestBytes));
    const at = Math.max(
      iops === null ? now : this.#pay("iops", now, (requests * 1000) / iops),
      bytesPerSecond === null ? now : this.#pay("bytesPerSecond", now, (bytes * 1000) / bytesPerSecond),
    );
    return at <= now ? undefined : this.#clock.sleep(at - now, signal);
  }

  /** When what was asked for before is paid for: then this one may pass. */
  #pay(kind: keyof Limits, now: number, costMs: number): number {
    const at = Math.max(this.#paidAt[kind], now - burstMs);
    this.#paidAt[kind] = at + costMs;
    return at;
  }
}
