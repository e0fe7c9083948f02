import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import { zstdDecompressSync } from "node:zlib";
import { VolumeKey } from "../keys.ts";
import { ChunkDamaged, chunkBlocks, decodeHeader } from "./format.ts";
import { blocksIn, damagedBlocks, rangeOf } from "./frames.ts";
import { kinds, makeChunk } from "./testing.ts";

const decompress = (bytes: Uint8Array, maxOutputLength: number) =>
  zstdDecompressSync(bytes, { maxOutputLength });
const isDamaged = (error: unknown) => error instanceof ChunkDamaged;

describe("a chunk", () => {
  for (const { kind, compression, key } of kinds) {
    it(`gives its blocks and extents back: ${kind}`, async () => {
      const extents = [
        { block: 3, count: 20 },
        { block: 2 ** 32 - 17, count: 17 },
      ];
      const { ref, body, data } = await makeChunk(37, { compression, key, extents });
      const header = decodeHeader(body, ref);
      assert.deepEqual(header.extents(), extents);
      assert.equal(header.blocks, 37);
      assert.equal(header.headerBytes, ref.headerBytes);
      const range = rangeOf(header, 0, 37);
      const open = { secret: key?.chunkKey(ref.name), decompress };
      const pieces = blocksIn(header, range, body.subarray(range.start, range.end), open);
      assert.ok(Buffer.concat(pieces).equals(data));
    });

    it(`tells each flipped byte of its header and data: ${kind}`, async () => {
      const { ref, body } = await makeChunk(20, { compression, key });
      const open = { secret: key?.chunkKey(ref.name), decompress };
      const header = decodeHeader(body, ref);
      const bytes = Buffer.from(body);
      for (let at = 0; at < body.length; at += at < 300 ? 1 : 997) {
        bytes[at] = (bytes[at] as number) ^ (1 << (at % 8));
        if (at < ref.headerBytes) assert.throws(() => decodeHeader(bytes, ref), isDamaged, `byte ${at}`);
        else assert.equal(damagedBlocks(header, bytes, open).length, 1, `byte ${at}`);
        bytes[at] = body[at] as number;
      }
    });
  }

  it("does not open with another key, or under another name", async () => {
    const key = new VolumeKey(randomBytes(32));
    const { ref, body } = await makeChunk(20, { key });
    const header = decodeHeader(body, ref);
    const other = new VolumeKey(randomBytes(32)).chunkKey(ref.name);
    assert.equal(damagedBlocks(header, body, { secret: other, decompress }).length, 2);
    const moved = key.chunkKey({ ...ref.name, number: 9 });
    assert.equal(damagedBlocks(header, body, { secret: moved, decompress }).length, 2);
    for (const name of [
      { ...ref.name, number: 9 },
      { ...ref.name, volume: "vol-00000000000000000" },
    ]) {
      assert.throws(() => decodeHeader(body, { ...ref, name }), /another chunk/);
    }
  });

  it("refuses headers that are cut off or claim too much", async () => {
    const { ref, body } = await makeChunk(20);
    for (let length = 0; length < ref.headerBytes; length += 61) {
      assert.throws(() => decodeHeader(body.subarray(0, length), ref), isDamaged);
    }
    assert.throws(() => decodeHeader(body, { ...ref, sizeBytes: ref.sizeBytes - 1 }), isDamaged);
    for (let at = 0; at < 40; at += 4) {
      for (const value of [0, 1, 0x7fffffff, 0xffffffff]) {
        const bytes = Buffer.from(body.subarray(0, ref.headerBytes));
        if (bytes.readUInt32LE(at) === value) continue;
        bytes.writeUInt32LE(value, at);
        assert.throws(() => decodeHeader(bytes, ref), isDamaged, `${value} at ${at}`);
      }
    }
  });

  it("of 1,016 blocks fits in 4 MiB, and lets other work run while it is made", async () => {
    assert.equal(chunkBlocks(4 * 1024 * 1024), 1016);
    let pauses = 0;
    const pause = async () => {
      pauses += 1;
    };
    const key = new VolumeKey(randomBytes(32));
    const { body } = await makeChunk(1016, { key, pause });
    assert.ok(body.length <= 4 * 1024 * 1024);
    assert.ok(pauses >= 4);
  });
});
