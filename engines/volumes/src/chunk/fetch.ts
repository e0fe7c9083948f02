import { SkepError } from "@skep/base";
import type { ObjectStore } from "@skep/objects";
import { ChunkDamaged } from "./format.ts";
import { type ChunkName, chunkObjectKey } from "./names.ts";

/** A chunk as far as its bytes matter. */
export interface StoredChunk {
  name: ChunkName;
  sizeBytes: number;
}

/** Bytes of chunks from the store: all that were asked for, or an error. */
export class ChunkFetch {
  readonly #store: ObjectStore;
  /** Since it was made. */
  bytes = 0;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  /** ChunkDamaged; OBJECT_NOT_FOUND and the store's other errors; ECONNRESET where its body ends too early. */
  async get(chunk: StoredChunk, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    const isAll = start === 0 && end === chunk.sizeBytes;
    try {
      const { body, sizeBytes } = await this.#store.get(chunkObjectKey(chunk.name), {
        ...(isAll ? {} : { range: { start, end } }),
        ...(signal === undefined ? {} : { signal }),
      });
      // Taken from the body in any case: what is behind it is released then.
      const pieces: Uint8Array[] = [];
      let length = 0;
      for await (const piece of body) {
        this.bytes += piece.length;
        length += piece.length;
        if (length > end - start) break;
        pieces.push(piece);
      }
      if (sizeBytes !== chunk.sizeBytes) {
        throw new ChunkDamaged(`it has ${sizeBytes} bytes in the store instead of ${chunk.sizeBytes}`);
      }
      if (length < end - start) {
        // The connection has ended, not the chunk: that says nothing of what is stored.
        const message = `of bytes ${start} to ${end - 1} of "${chunkObjectKey(chunk.name)}" ${length} came`;
        throw Object.assign(new Error(message), { code: "ECONNRESET" });
      }
      if (length > end - start) {
        throw new ChunkDamaged(`of its bytes ${start} to ${end - 1} the store gave ${length}`);
      }
      return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
    } catch (error) {
      const code = error instanceof SkepError ? error.code : undefined;
      if (code !== "OBJECT_DAMAGED" && code !== "RANGE_INVALID") throw error;
      throw new ChunkDamaged((error as Error).message, { cause: error });
    }
  }
}
