const smallestBytes = 4096;
const keptBytes = 4 * 1024 * 1024;

/** Memory for the data of writes, used again: fresh memory costs more than what is done with it. */
export class Payloads {
  readonly #spare = new Map<number, ArrayBuffer[]>();
  #kept = 0;

  lend(lengthBytes: number): Buffer {
    const size = Math.max(smallestBytes, 2 ** Math.ceil(Math.log2(lengthBytes)));
    const spare = this.#spare.get(size)?.pop();
    if (spare !== undefined) this.#kept -= size;
    return Buffer.from(spare ?? Buffer.allocUnsafeSlow(size).buffer, 0, lengthBytes);
  }

  /** Nobody may use it any more. */
  release(payload: Buffer): void {
    const memory = payload.buffer as ArrayBuffer;
    const size = memory.byteLength;
    if (this.#kept + size > keptBytes) return;
    this.#kept += size;
    const spare = this.#spare.get(size);
    if (spare === undefined) this.#spare.set(size, [memory]);
    else spare.push(memory);
  }
}
