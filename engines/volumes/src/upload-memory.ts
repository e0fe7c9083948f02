/** Smaller pieces are not worth keeping. */
const smallestBytes = 512 * 1024;
const stepBytes = 1024 * 1024;

/**
 * Memory for chunks on their way to a store. While there are any it is used again, for fresh pieces of this size
 * cost more than what is done with them; afterwards nothing is kept.
 */
export class UploadMemory {
  readonly #spare = new Map<number, Buffer[]>();
  #users = 0;

  /** What `work` lends is its own until it has succeeded. After a failure somebody may still be at it. */
  async use<T>(work: (lend: (lengthBytes: number) => Buffer) => Promise<T>): Promise<T> {
    const lent: Buffer[] = [];
    this.#users += 1;
    try {
      const result = await work((lengthBytes) => this.#lend(lengthBytes, lent));
      for (const memory of lent) this.#spareOf(memory.length).push(memory);
      return result;
    } finally {
      this.#users -= 1;
      if (this.#users === 0) this.#spare.clear();
    }
  }

  #lend(lengthBytes: number, lent: Buffer[]): Buffer {
    if (lengthBytes < smallestBytes) return Buffer.allocUnsafeSlow(lengthBytes);
    const size = Math.ceil(lengthBytes / stepBytes) * stepBytes;
    const memory = this.#spareOf(size).pop() ?? Buffer.allocUnsafeSlow(size);
    lent.push(memory);
    return memory.subarray(0, lengthBytes);
  }

  #spareOf(size: number): Buffer[] {
    const spare = this.#spare.get(size) ?? [];
    this.#spare.set(size, spare);
    return spare;
  }
}
