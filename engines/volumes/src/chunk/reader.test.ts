import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { describe, it } from "node:test";
import { EmbeddedStore, MemoryStore } from "@skep/objects";
import { disk } from "@skep/objects/files";
import { Pace } from "../pace.ts";
import { blockBytes } from "../types.ts";
import { ChunkDamaged } from "./format.ts";
import { ChunkReader } from "./reader.ts";
import { kinds, makeChunk } from "./testing.ts";

async function temporary() {
  const path = await mkdtemp("/tmp/skep-chunks-");
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) };
}

const pace = () => new Pace(() => 0);

describe("the chunks' reader", () => {
  for (const { kind, compression, key } of kinds) {
    it(`reads a ${kind} chunk of a store elsewhere, and warm from its cache after a restart`, async () => {
      await using directory = await temporary();
      const store = new MemoryStore();
      const { ref, objectKey, body, data } = await makeChunk(200, { compression, key });
      await store.put(objectKey, body);
      const options = { store, files: disk, cacheDirectory: directory.path, pace: pace() };
      const reader = new ChunkReader(options);
      for (const [ordinal, count] of [
        [0, 200],
        [17, 1],
        [199, 1],
        [15, 30],
      ] as const) {
        const pieces = await reader.read(ref, ordinal, count);
        const wanted = data.subarray(ordinal * blockBytes, (ordinal + count) * blockBytes);
        assert.ok(Buffer.concat(pieces).equals(wanted));
      }
      await reader.close();
      const again = new ChunkReader(options);
      assert.ok(Buffer.concat(await again.read(ref, 0, 200)).equals(data));
      assert.equal(again.bytesFromStore, 0);
      await again.close();
    });
  }

  it("reads the embedded store's own file, at once and without the store", async () => {
    await using directory = await temporary();
    await using embedded = await EmbeddedStore.open({ directory: directory.path });
    await embedded.createBucket("bucket", { owner: "owner" });
    const store = embedded.objects("bucket", { owner: "owner", prefix: "volumes/" });
    const { ref, objectKey, body, data } = await makeChunk(200);
    await store.put(objectKey, body);
    const reader = new ChunkReader({ store, files: disk, pace: pace() });
    await reader.read(ref, 0, 1);
    const pieces = reader.read(ref, 5, 1);
    assert.ok(Array.isArray(pieces));
    assert.ok(Buffer.concat(pieces).equals(data.subarray(5 * blockBytes, 6 * blockBytes)));
    assert.equal(reader.bytesFromStore, 0);
    await store.delete(objectKey);
    reader.forget(ref.name);
    await assert.rejects(async () => reader.read(ref, 0, 1), { code: "OBJECT_NOT_FOUND" });
    await reader.close();
  });

  it("shares a GET; one reader's abort does not fail the others", async () => {
    const store = new MemoryStore();
    const { ref, objectKey, body, data } = await makeChunk(200);
    await store.put(objectKey, body);
    const reader = new ChunkReader({ store });
    const abort = new AbortController();
    const aborted = reader.read(ref, 1, 1, { signal: abort.signal });
    const others = [reader.read(ref, 1, 1), reader.read(ref, 2, 1)];
    abort.abort(new Error("enough"));
    await assert.rejects(async () => aborted, /enough/);
    const [one, two] = await Promise.all(others);
    assert.ok(
      Buffer.concat([...(one ?? []), ...(two ?? [])]).equals(data.subarray(blockBytes, 3 * blockBytes)),
    );
    assert.equal(reader.bytesFromStore, 64 * 1024);
    await reader.close();
  });

  it("names blocks that are damaged in the store, and repairs those damaged in its cache", async () => {
    await using directory = await temporary();
    const store = new MemoryStore();
    const { ref, objectKey, body, data } = await makeChunk(200);
    const options = { store, files: disk, cacheDirectory: directory.path };
    const bad = Buffer.from(body);
    bad.writeUInt8(bad.readUInt8(ref.headerBytes + 30 * blockBytes) ^ 1, ref.headerBytes + 30 * blockBytes);
    await store.put(objectKey, bad);
    const reader = new ChunkReader(options);
    await assert.rejects(
      async () => reader.read(ref, 29, 3),
      (error) => error instanceof ChunkDamaged && error.why.startsWith("blocks 30 to 30:"),
    );
    assert.deepEqual(
      (await reader.verify(ref)).map(({ ordinal, count }) => [ordinal, count]),
      [[30, 1]],
    );
    await store.put(objectKey, body);
    assert.ok(Buffer.concat(await reader.read(ref, 0, 200)).equals(data));
    await reader.close();
  });

  it("keeps its cache within its bound, and goes on without one where the disk is full", async () => {
    await using directory = await temporary();
    const store = new MemoryStore();
    const log: string[] = [];
    const full = { ...disk, freeBytesSync: () => 0 };
    const broken = { ...disk, mkdir: async () => Promise.reject(new Error("ENOSPC")) };
    for (const files of [disk, full, broken]) {
      const options = { store, files, cacheDirectory: directory.path, cacheBytes: 2_000_000 };
      const reader = new ChunkReader({ ...options, log: (message) => log.push(message) });
      for (let number = 0; number < 6; number += 1) {
        const name = { volume: "vol-0123456789abcdef0", epoch: 1, number };
        const { ref, objectKey, body, data } = await makeChunk(200, { name });
        await store.put(objectKey, body);
        await reader.written(ref, body);
        assert.ok(Buffer.concat(await reader.read(ref, 0, 200)).equals(data));
      }
      await reader.close();
      const kept = await disk.readdir(`${directory.path}/vol-0123456789abcdef0`);
      assert.ok(kept.length <= 2, `${kept}`);
    }
    assert.equal(log.length, 1);
  });
});
