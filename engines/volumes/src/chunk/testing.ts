import { randomBytes } from "node:crypto";
import { zstdCompressSync } from "node:zlib";
import { VolumeKey } from "../keys.ts";
import { blockBytes } from "../types.ts";
import { type EncodeChunk, encodeChunk } from "./format.ts";
import { chunkObjectKey } from "./names.ts";
import type { ChunkRef } from "./reader.ts";

export const kinds = [
  { kind: "plain", compression: "none", key: null },
  { kind: "zstd", compression: "zstd", key: null },
  { kind: "encrypted", compression: "none", key: new VolumeKey(randomBytes(32)) },
  { kind: "zstd and encrypted", compression: "zstd", key: new VolumeKey(randomBytes(32)) },
] as const;

export interface MadeChunk {
  ref: ChunkRef;
  objectKey: string;
  body: Uint8Array;
  /** The blocks, one behind the other. */
  data: Buffer;
}

/** A chunk of so many blocks, half of whose bytes are random. */
export async function makeChunk(blocks: number, options: Partial<EncodeChunk> = {}): Promise<MadeChunk> {
  const data = Buffer.alloc(blocks * blockBytes, "compressible ");
  for (let at = 0; at < data.length; at += blockBytes) data.set(randomBytes(blockBytes / 2), at);
  const name = { volume: "vol-0123456789abcdef0", epoch: 1, number: 2 };
  const given: EncodeChunk = {
    name,
    extents: [{ block: 7, count: blocks }],
    blocks: [data],
    compression: "none",
    key: null,
    compress: (bytes) => zstdCompressSync(bytes),
    pause: async () => undefined,
    ...options,
  };
  const { body, headerBytes } = await encodeChunk(given);
  const ref = { name: given.name, sizeBytes: body.length, headerBytes, blocks, key: given.key };
  return { ref, objectKey: chunkObjectKey(given.name), body, data };
}
