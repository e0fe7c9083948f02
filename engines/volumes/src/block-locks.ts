interface Entry {
  first: number;
  end: number;
  exclusive: boolean;
  isHeld: boolean;
  granted: (() => void) | undefined;
}

/**
 * Locks of ranges of blocks, in the order in which they were asked for. A write of whole blocks shares its
 * range with others of its kind; a read-modify-write has it alone.
 */
export class BlockLocks {
  #entries: Entry[] = [];

  get isIdle(): boolean {
    return this.#entries.length === 0;
  }

  /** Undefined where somebody is in the way: then `wait`. */
  take(first: number, end: number, exclusive: boolean): Disposable | undefined {
    const entry: Entry = { first, end, exclusive, isHeld: true, granted: undefined };
    if (this.#isBlocked(entry, this.#entries.length)) return undefined;
    this.#entries.push(entry);
    return { [Symbol.dispose]: () => this.#release(entry) };
  }

  async wait(first: number, end: number, exclusive: boolean): Promise<Disposable> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const entry: Entry = { first, end, exclusive, isHeld: false, granted: resolve };
    this.#entries.push(entry);
    this.#grant();
    await promise;
    return { [Symbol.dispose]: () => this.#release(entry) };
  }

  #isBlocked({ first, end, exclusive }: Entry, before: number): boolean {
    for (let i = 0; i < before; i += 1) {
      const other = this.#entries[i] as Entry;
      if (other.first < end && first < other.end && (exclusive || other.exclusive)) return true;
    }
    return false;
  }

  #release(entry: Entry): void {
    const at = this.#entries.indexOf(entry);
    if (at < 0) return;
    this.#entries.splice(at, 1);
    if (this.#entries.length > 0) this.#grant();
  }

  #grant(): void {
    for (const [index, entry] of this.#entries.entries()) {
      if (entry.isHeld || this.#isBlocked(entry, index)) continue;
      entry.isHeld = true;
      entry.granted?.();
    }
  }
}
