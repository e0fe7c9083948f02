import type { Random } from "@skep/objects/simulation";

/** Bytes that no other write has, and that differ from place to place; some of them compress. */
export class DataSource {
  readonly #random: Random;
  #count = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  make(length: number): Buffer {
    this.#count += 1;
    const bytes = Buffer.allocUnsafe(length);
    if (this.#random.chance(0.5)) this.#text(bytes);
    else this.#noise(bytes);
    return bytes;
  }

  #text(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; at += 64) {
      bytes.fill(`${this.#count}:${at}.`, at, Math.min(at + 64, bytes.length), "latin1");
    }
  }

  #noise(bytes: Buffer): void {
    let state = Math.imul(this.#count, 0x9e3779b1) | 1;
    for (let at = 0; at < bytes.length; at += 1) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      bytes[at] = state;
    }
  }
}

/** The bytes that a device gave for a read. */
export function joined(result: Uint8Array | readonly (Uint8Array | { zeroes: number })[]): Buffer {
  const pieces = result instanceof Uint8Array ? [result] : result;
  return Buffer.concat(
    pieces.map((piece) => (piece instanceof Uint8Array ? piece : Buffer.alloc(piece.zeroes))),
  );
}
