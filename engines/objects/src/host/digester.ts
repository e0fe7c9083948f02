import { type BlobDigest, type BlobDigests, type Digester, pieceBytes } from "../blobs/digest.ts";
import type { DigestRequest } from "./messages.ts";
import { Thread } from "./thread.ts";

/** Pieces of memory that are kept when no blob is being written; until then all are. */
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
    this.#taken += 1;
    return this.#memory.pop() ?? new Uint8Array(new SharedArrayBuffer(pieceBytes));
  }

  giveMemory(memory: Uint8Array): void {
    this.#taken -= 1;
    this.#memory.push(memory);
    if (this.#taken === 0) this.#memory.length = Math.min(keptPieces, this.#memory.length);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.close();
  }
}
