import { type BlobDigest, type BlobDigests, type Digester, pieceBytes } from "../blobs/digest.ts";
import type { DigestRequest } from "./messages.ts";
import { Thread } from "./thread.ts";

/** Pieces of memory that are kept, besides as many as are in use. */
const keptPieces = 4;

/** Digests on a thread of their own, which starts with the first; the bytes are in memory that both see. */
export class ThreadDigester implements Digester {
  #thread: Thread<DigestRequest> | undefined;
  #lastId = 0;
  readonly #memory: Uint8Array[] = [];
  #taken = 0;

  begin(): BlobDigest {
    const thread = this.#start();
    this.#lastId += 1;
    const id = this.#lastId;
    return {
      update: async (bytes) => void (await thread.ask({ id, step: bytes })),
      finish: () => thread.ask({ id, step: "finish" }) as Promise<BlobDigests>,
      abandon: () => void thread.ask({ id, step: "abandon" }).catch(() => undefined),
    };
  }

  #start(): Thread<DigestRequest> {
    this.#thread ??= new Thread<DigestRequest>(
      "digest-thread",
      undefined,
      (digests) => ({ digests }),
      (reply) => {
        if ("digested" in reply) this.#thread?.answer(reply.digested);
      },
    );
    return this.#thread;
  }

  takeMemory(): Uint8Array {
    const memory = this.#memory.pop() ?? new Uint8Array(new SharedArrayBuffer(pieceBytes));
    this.#taken += 1;
    return memory;
  }

  giveMemory(memory: Uint8Array): void {
    this.#taken -= 1;
    this.#memory.push(memory);
    // Not all until nobody writes: one upload that stands still would keep what many others had.
    this.#memory.length = Math.min(keptPieces + this.#taken, this.#memory.length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.close();
  }
}
