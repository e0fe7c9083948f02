interface Held {
  start: number;
  end: number;
  released: Promise<void>;
}

/** Ranges of blocks that are being changed: who comes later waits for all that overlap his, in order. */
export class RangeLocks {
  readonly #held = new Set<Held>();

  /** Whether nobody has any of these blocks. */
  isFree(start: number, end: number): boolean {
    if (this.#held.size === 0) return true;
    for (const held of this.#held) if (held.start < end && start < held.end) return false;
    return true;
  }

  /** Does the work once the range is free; whoever asked before goes before. */
  async run<T>(start: number, end: number, work: () => T | Promise<T>): Promise<T> {
    const before: Promise<void>[] = [];
    for (const held of this.#held) if (held.start < end && start < held.end) before.push(held.released);
    const { promise, resolve } = Promise.withResolvers<void>();
    const mine = { start, end, released: promise };
    this.#held.add(mine);
    try {
      if (before.length > 0) await Promise.all(before);
      return await work();
    } finally {
      this.#held.delete(mine);
      resolve();
    }
  }

  /** Holds the range until that has settled; it must be free. */
  hold(start: number, end: number, until: Promise<unknown>): void {
    const { promise, resolve } = Promise.withResolvers<void>();
    const mine = { start, end, released: promise };
    this.#held.add(mine);
    const release = () => {
      this.#held.delete(mine);
      resolve();
    };
    until.then(release, release);
  }
}
