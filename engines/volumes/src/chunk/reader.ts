import { zstdDecompressSync } from "node:zlib";
import type { ObjectStore } from "@skep/objects";
import type { VolumeKey } from "../keys.ts";
import { blockBytes } from "../types.ts";
import { ChunkDamaged, type ChunkHeader, decodeFrame, decodeHeader } from "./format.ts";
import { type ChunkName, chunkObjectKey } from "./names.ts";

/** A chunk as the map knows it. */
export interface ChunkRef {
  name: ChunkName;
  sizeBytes: number;
  headerBytes: number;
  blocks: number;
  key: VolumeKey | null;
}

export interface ChunkReaderOptions {
  store: ObjectStore;
  /** What is kept in memory of chunks, at most. */
  memoryBytes?: number;
  decompress?(bytes: Uint8Array, maxBytes: number): Uint8Array;
}

interface Held {
  header: ChunkHeader;
  bytes: Uint8Array;
  secret: Uint8Array | undefined;
}

/** Reads chunks of one store, for all volumes, verified. */
export class ChunkReader {
  readonly #store: ObjectStore;
  readonly #memoryBytes: number;
  readonly #decompress: (bytes: Uint8Array, maxBytes: number) => Uint8Array;
  readonly #held = new Map<string, Held>();
  readonly #fetching = new Map<string, Promise<Held>>();
  #heldBytes = 0;
  bytesFromStore = 0;

  constructor(options: ChunkReaderOptions) {
    this.#store = options.store;
    this.#memoryBytes = options.memoryBytes ?? 32 * 1024 * 1024;
    this.#decompress =
      options.decompress ?? ((bytes, maxOutputLength) => zstdDecompressSync(bytes, { maxOutputLength }));
  }

  /** Pieces that are together the blocks. ChunkDamaged, or the store's OBJECT_NOT_FOUND. */
  read(
    ref: ChunkRef,
    ordinal: number,
    count: number,
    options: { signal?: AbortSignal; sequential?: boolean } = {},
  ): Uint8Array[] | Promise<Uint8Array[]> {
    const held = this.#held.get(chunkObjectKey(ref.name));
    if (held !== undefined) return this.#blocks(held, ordinal, count);
    return this.#fetch(ref, options.signal).then((fetched) => this.#blocks(fetched, ordinal, count));
  }

  #fetch(ref: ChunkRef, signal?: AbortSignal): Promise<Held> {
    const key = chunkObjectKey(ref.name);
    const under = this.#fetching.get(key);
    if (under !== undefined) return under;
    const fetching = this.#get(ref, signal).finally(() => this.#fetching.delete(key));
    this.#fetching.set(key, fetching);
    return fetching;
  }

  async #get(ref: ChunkRef, signal?: AbortSignal): Promise<Held> {
    const key = chunkObjectKey(ref.name);
    const { body, sizeBytes } = await this.#store.get(key, signal === undefined ? {} : { signal });
    const pieces: Uint8Array[] = [];
    for await (const piece of body) {
      pieces.push(piece);
      this.bytesFromStore += piece.length;
    }
    const bytes = Buffer.concat(pieces);
    if (bytes.length < sizeBytes) {
      // The connection ended, not the chunk.
      const message = `the object store sent ${bytes.length} of ${sizeBytes} bytes of "${key}"`;
      throw Object.assign(new Error(message), { code: "ECONNRESET" });
    }
    if (sizeBytes !== ref.sizeBytes) {
      throw new ChunkDamaged(`it has ${sizeBytes} bytes and not ${ref.sizeBytes}`);
    }
    return this.#hold(ref, bytes);
  }

  #hold(ref: ChunkRef, bytes: Uint8Array): Held {
    const key = chunkObjectKey(ref.name);
    const header = decodeHeader(bytes, ref);
    const held = { header, bytes, secret: ref.key?.chunkKey(ref.name) };
    this.forget(ref.name);
    this.#held.set(key, held);
    this.#heldBytes += bytes.length;
    for (const [oldest, { bytes: freed }] of this.#held) {
      if (this.#heldBytes <= this.#memoryBytes || oldest === key) break;
      this.#held.delete(oldest);
      this.#heldBytes -= freed.length;
    }
    return held;
  }

  #blocks({ header, bytes, secret }: Held, ordinal: number, count: number): Uint8Array[] {
    const pieces: Uint8Array[] = [];
    for (let at = ordinal; at < ordinal + count; ) {
      const frame = header.frameOf(at);
      const stored = bytes.subarray(frame.position, frame.position + frame.storedBytes);
      const number = Math.floor(at / header.frameBlocks);
      const blocks = decodeFrame(frame, stored, number, secret, this.#decompress);
      const end = Math.min(ordinal + count, frame.ordinal + frame.blocks);
      pieces.push(blocks.subarray((at - frame.ordinal) * blockBytes, (end - frame.ordinal) * blockBytes));
      at = end;
    }
    return pieces;
  }

  /** A chunk that was just put. */
  written(_ref: ChunkRef, _body: Uint8Array): void {}

  /** The chunk is deleted. */
  forget(name: ChunkName): void {
    const key = chunkObjectKey(name);
    const held = this.#held.get(key);
    if (held === undefined) return;
    this.#held.delete(key);
    this.#heldBytes -= held.bytes.length;
  }

  /** Reads every frame from the store: which blocks are damaged, and why. */
  async verify(
    ref: ChunkRef,
    options: { signal?: AbortSignal } = {},
  ): Promise<{ ordinal: number; count: number; why: string }[]> {
    const damaged: { ordinal: number; count: number; why: string }[] = [];
    let held: Held;
    try {
      this.forget(ref.name);
      held = await this.#get(ref, options.signal);
    } catch (error) {
      if (!(error instanceof ChunkDamaged)) throw error;
      return [{ ordinal: 0, count: ref.blocks, why: error.why }];
    }
    for (let ordinal = 0; ordinal < ref.blocks; ) {
      const { blocks } = held.header.frameOf(ordinal);
      try {
        this.#blocks(held, ordinal, blocks);
      } catch (error) {
        if (!(error instanceof ChunkDamaged)) throw error;
        damaged.push({ ordinal, count: blocks, why: error.why });
      }
      ordinal += blocks;
    }
    return damaged;
  }

  async close(): Promise<void> {
    this.#held.clear();
    this.#heldBytes = 0;
  }
}
