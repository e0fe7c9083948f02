const slowNs = 2_000_000;
const firstPauseNs = 20_000_000;
const longestPauseNs = 5_000_000_000;
/** So many quick ones in a row, and what was slow is forgotten. */
const quickToForget = 64;

/**
 * Where a short file operation shall be done: in place, which from the page cache takes microseconds, or in
 * the thread pool, which costs more but does not stop the event loop where the disk is cold or throttled.
 * After a slow one all go to the pool for a while, longer each time that the disk is still slow then.
 */
export class Pace {
  readonly #now: () => number;
  #poolUntil = Number.NEGATIVE_INFINITY;
  #pauseNs = 0;
  #quickOnes = 0;

  /** `now`: nanoseconds since some moment. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** True: do it in place, and say how long it took. */
  quick(): boolean {
    return this.#pauseNs === 0 || this.#now() >= this.#poolUntil;
  }

  /** An operation in place has taken so long. */
  took(ns: number): void {
    if (ns > slowNs) {
      this.#pauseNs = Math.min(longestPauseNs, Math.max(firstPauseNs, this.#pauseNs * 2));
      this.#poolUntil = this.#now() + this.#pauseNs;
      this.#quickOnes = 0;
    } else if (this.#pauseNs !== 0) {
      this.#quickOnes += 1;
      if (this.#quickOnes >= quickToForget) this.#pauseNs = 0;
    }
  }

  /** Does it in place, and takes its time. */
  inPlace<T>(work: () => T): T {
    const began = this.#now();
    try {
      return work();
    } finally {
      this.took(this.#now() - began);
    }
  }
}
