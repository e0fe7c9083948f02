const mebibyte = 2 ** 20;
/** How long a drain shall take, about: writes that find the log full wait for that. */
const drainMs = 4000;
const leastBytes = 32 * mebibyte;
/** Before anything is known of the store. */
const firstBytes = 128 * mebibyte;
/** A drain goes through as many runs of blocks in one turn of the event loop now and then: some 50 ms. */
const mostChanges = 32_768;
/** A drain writes as much again where the store is on the same disk, and the log goes only after it. */
const spaceForEach = 4;
const stepBytes = 16 * mebibyte;

/** What waits for a drain that has not captured yet. */
export interface Waiting {
  bytes: number;
  /** Writes, trims and zeroes. */
  changes: number;
}

/**
 * When a drain shall begin. Late, for a burst is written faster without one beside it, and what is written twice
 * is put once; but so early that it takes seconds only, whatever the store, and that the disk has room for it.
 */
export class DrainPace {
  readonly #mostBytes: number;
  readonly #freeBytes: () => number;
  #bytes: number;
  #lookedAt = 0;

  /** `mostBytes`: never more than this. `freeBytes`: what the log's disk has. */
  constructor(mostBytes: number, freeBytes: () => number) {
    this.#mostBytes = mostBytes;
    this.#freeBytes = freeBytes;
    this.#bytes = Math.min(mostBytes, firstBytes);
  }

  /** With so much it begins, space aside. */
  get bytes(): number {
    return this.#bytes;
  }

  isDue({ bytes, changes }: Waiting): boolean {
    if (bytes >= this.#bytes || changes >= mostChanges) return true;
    if (bytes < this.#lookedAt) this.#lookedAt = 0;
    if (bytes < this.#lookedAt + stepBytes) return false;
    this.#lookedAt = bytes;
    return this.#freeBytes() < spaceForEach * bytes;
  }

  /** A drain of so much has taken so long. */
  took(bytes: number, ms: number): void {
    if (bytes < stepBytes) return;
    const wanted = (bytes / Math.max(1, ms)) * drainMs;
    this.#bytes = Math.min(this.#mostBytes, Math.max(leastBytes, (this.#bytes + wanted) / 2));
  }
}
