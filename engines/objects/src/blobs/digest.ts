import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { blockBytes } from "./format.ts";

/** Bytes that are written, and digested, at once. */
export const pieceBytes = 1024 * 1024;

/** Of all bytes of a blob: the MD5 (hex), and the CRC-32 of each block. */
export interface BlobDigests {
  md5: string;
  checksums: number[];
}

/** What is computed of a blob while it is written. */
export interface BlobDigest {
  /** The next bytes; they must stay as they are until it resolves. */
  update(bytes: Uint8Array): Promise<void>;
  finish(): Promise<BlobDigests>;
  /** No more comes: the writing has failed. */
  abandon(): void;
}

/** Where digests are computed, and the memory from which that can be done. */
export interface Digester extends AsyncDisposable {
  begin(): BlobDigest;
  /** `pieceBytes`; to be given back. */
  takeMemory(): Uint8Array;
  giveMemory(memory: Uint8Array): void;
}

/** Digests of one blob, as its bytes come. */
export class RunningDigest {
  readonly #md5 = createHash("md5");
  readonly #checksums: number[] = [];
  #current = 0;
  #length = 0;

  update(bytes: Uint8Array): void {
    this.#md5.update(bytes);
    let rest = bytes;
    while (rest.length > 0) {
      const part = rest.subarray(0, blockBytes - this.#length);
      this.#current = crc32(part, this.#current);
      this.#length += part.length;
      rest = rest.subarray(part.length);
      if (this.#length === blockBytes) this.#endBlock();
    }
  }

  #endBlock(): void {
    this.#checksums.push(this.#current);
    this.#current = 0;
    this.#length = 0;
  }

  finish(): BlobDigests {
    if (this.#length > 0) this.#endBlock();
    return { md5: this.#md5.digest("hex"), checksums: this.#checksums };
  }
}

/** On the caller's own thread. */
export class LocalDigester implements Digester {
  begin(): BlobDigest {
    const running = new RunningDigest();
    return {
      update: async (bytes) => running.update(bytes),
      finish: async () => running.finish(),
      abandon: () => undefined,
    };
  }

  takeMemory(): Uint8Array {
    return Buffer.allocUnsafeSlow(pieceBytes);
  }

  giveMemory(): void {}

  async [Symbol.asyncDispose](): Promise<void> {}
}
