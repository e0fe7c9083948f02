/**
 * Which blobs may be unlinked, and when. A blob that a commit has left without a row is still needed by
 * those who opened it before, and by those whose look-up was on its way and saw the row: it goes when
 * the last of them is done. All look-ups and commits are the main thread's, so counting them is enough.
 */
export class BlobLifetimes {
  readonly #unlink: (name: string) => void;
  /** Blobs being written, which no row names yet. */
  readonly #writing = new Set<string>();
  readonly #open = new Map<string, number>();
  /** Look-ups under way, by the order of their beginning. */
  readonly #lookups = new Set<number>();
  #nextLookup = 0;
  /** Blobs without a row, and the first look-up that cannot have seen one. */
  readonly #doomed = new Map<string, number>();

  constructor(unlink: (name: string) => void) {
    this.#unlink = unlink;
  }

  beginWriting(name: string): void {
    this.#writing.add(name);
  }

  endWriting(name: string): void {
    this.#writing.delete(name);
  }

  /** Runs a look-up and then, before anything else can happen, opens the blobs that it found. */
  async lookUp<T>(find: () => Promise<T>, blobs: (found: T) => readonly string[]): Promise<T> {
    const turn = this.#nextLookup++;
    this.#lookups.add(turn);
    try {
      const found = await find();
      for (const name of blobs(found)) this.#open.set(name, (this.#open.get(name) ?? 0) + 1);
      return found;
    } finally {
      this.#lookups.delete(turn);
      this.#sweep();
    }
  }

  /** Those who opened them read no more. */
  close(blobs: readonly string[]): void {
    for (const name of blobs) {
      const count = (this.#open.get(name) ?? 0) - 1;
      if (count > 0) this.#open.set(name, count);
      else this.#open.delete(name);
    }
    this.#sweep();
  }

  /** No row names them from now on. */
  remove(blobs: readonly string[]): void {
    for (const name of blobs) this.#doomed.set(name, this.#nextLookup);
    this.#sweep();
  }

  /** Whether a blob without a row is one for a reason. */
  isKnown(name: string): boolean {
    return this.#writing.has(name) || this.#open.has(name) || this.#doomed.has(name);
  }

  #sweep(): void {
    if (this.#doomed.size === 0) return;
    const oldest = this.#lookups.values().next().value ?? this.#nextLookup;
    for (const [name, since] of this.#doomed) {
      if (since > oldest || this.#open.has(name)) continue;
      this.#doomed.delete(name);
      this.#unlink(name);
    }
  }
}
