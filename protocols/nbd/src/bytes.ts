const nothing: Buffer = Buffer.alloc(0);

/** Below this, chunks are copied together: a peer that sends single bytes shall not cost an object each. */
const smallBytes = 2048;
const gatherBytes = 16 * 1024;

/** The bytes of a stream as they arrive, taken in the lengths that the protocol asks for. */
export class ByteQueue {
  /** Only the first is partly taken. */
  #chunks: Buffer[] = [];
  #first = nothing;
  #at = 0;
  #length = 0;
  /** The last chunk, where it is ours and has room left. */
  #gather = nothing;
  #gathered = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#length;
  }

  push(bytes: Buffer): void {
    if (bytes.length === 0) return;
    if (this.#length === 0) {
      this.#first = bytes;
      this.#at = 0;
      this.#gather = nothing;
    } else if (bytes.length < smallBytes) {
      this.#pushSmall(bytes);
    } else {
      this.#chunks.push(bytes);
      this.#gather = nothing;
    }
    this.#length += bytes.length;
  }

  #pushSmall(bytes: Buffer): void {
    if (this.#gather.length === 0 || this.#gather.length - this.#gathered < bytes.length) {
      this.#gather = Buffer.allocUnsafeSlow(gatherBytes);
      this.#gathered = 0;
      this.#chunks.push(this.#gather.subarray(0, 0));
    }
    bytes.copy(this.#gather, this.#gathered);
    const last = this.#chunks.length - 1;
    const from = this.#gathered - (this.#chunks[last] as Buffer).length;
    this.#gathered += bytes.length;
    this.#chunks[last] = this.#gather.subarray(from, this.#gathered);
  }

  /** The next `count` bytes, or undefined while fewer wait: a view where they came in one piece. */
  take(count: number): Buffer | undefined {
    if (this.#length < count) return undefined;
    if (this.#first.length - this.#at >= count) {
      const view = this.#first.subarray(this.#at, this.#at + count);
      this.skip(count);
      return view;
    }
    const joined = Buffer.allocUnsafeSlow(count);
    for (let done = 0; done < count; ) {
      const copied = this.#first.copy(joined, done, this.#at, this.#at + count - done);
      done += copied;
      this.skip(copied);
    }
    return joined;
  }

  /** Drops as many of the next `count` bytes as wait, and says how many. */
  skip(count: number): number {
    const skipped = Math.min(count, this.#length);
    this.#at += skipped;
    this.#length -= skipped;
    while (this.#at >= this.#first.length) {
      this.#at -= this.#first.length;
      const next = this.#chunks.shift();
      this.#first = next ?? nothing;
      // What is being taken is not added to any more.
      if (this.#chunks.length === 0) this.#gather = nothing;
      if (next !== undefined) continue;
      this.#at = 0;
      break;
    }
    return skipped;
  }
}
