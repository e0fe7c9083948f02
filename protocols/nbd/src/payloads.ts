const smallestBytes = 4096;
const keptBytes = 8 * 1024 * 1024;

/** Memory for the data of requests and answers, used again: fresh memory costs more than what is done with it. */
export class Payloads {
  readonly #spare = new Map<number, ArrayBuffer[]>();
  readonly #answers = new WeakSet<ArrayBufferLike>();
  #kept = 0;

  lend(lengthBytes: number): Buffer {
    const size = Math.max(smallestBytes, 2 ** Math.ceil(Math.log2(lengthBytes)));
    const spare = this.#spare.get(size)?.pop();
    if (spare !== undefined) this.#kept -= size;
    return Buffer.from(spare ?? Buffer.allocUnsafeSlow(size).buffer, 0, lengthBytes);
  }

  /** For the answer to a read. */
  lendAnswer(lengthBytes: number): Buffer {
    const answer = this.lend(lengthBytes);
    this.#answers.add(answer.buffer);
    return answer;
  }

  /** Whether that is memory of `lendAnswer`, to be released once it has left; true only once. */
  takeAnswer(memory: ArrayBufferLike): boolean {
    return this.#answers.delete(memory);
  }

  /** Nobody may use it any more. */
  release(payload: Uint8Array): void {
    const memory = payload.buffer as ArrayBuffer;
    const size = memory.byteLength;
    if (this.#kept + size > keptBytes) return;
    this.#kept += size;
    const spare = this.#spare.get(size);
    if (spare === undefined) this.#spare.set(size, [memory]);
    else spare.push(memory);
  }
}
