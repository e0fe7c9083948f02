import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { owner, TestStore } from "./testing/store.ts";

const large = Buffer.alloc(300_000, "abcdefg");

describe("an object's own file", () => {
  it("holds its bytes in one piece where it is large, below a prefix too", async () => {
    await using test = await TestStore.make();
    const objects = test.store.objects("bucket", { owner, prefix: "volumes/" });
    await objects.put("one", large);
    const found = await objects.file?.("one");
    assert.ok(found);
    assert.equal(found.sizeBytes, large.length);
    const bytes = readFileSync(found.path).subarray(found.offset, found.offset + found.sizeBytes);
    assert.deepEqual(bytes, large);
    found.release();
    assert.ok(existsSync(found.path));
    await assert.rejects(async () => objects.file?.("volumes/one"), { code: "OBJECT_NOT_FOUND" });
  });

  it("is not there where the object is small, or lies in several parts", async () => {
    await using test = await TestStore.make();
    const objects = test.store.objects("bucket", { owner });
    await objects.put("small", Buffer.from("small"));
    assert.equal(await objects.file?.("small"), undefined);
    const upload = await objects.createUpload("parts");
    const parts: { number: number; etag: string }[] = [];
    for (const number of [1, 2]) parts.push({ number, ...(await upload.putPart(number, large)) });
    await upload.complete(parts);
    assert.equal(await objects.file?.("parts"), undefined);
  });

  it("stays until it is released, though the object is replaced or deleted", async () => {
    await using test = await TestStore.make();
    const objects = test.store.objects("bucket", { owner });
    await objects.put("one", large);
    const first = await objects.file?.("one");
    const second = await objects.file?.("one");
    assert.ok(first && second);
    await objects.put("one", Buffer.alloc(300_000, "z"));
    await objects.delete("one");
    first.release();
    first.release();
    assert.deepEqual(readFileSync(second.path).subarray(0, large.length), large);
    second.release();
    await test.store.close();
    assert.equal(existsSync(second.path), false);
    await test.open();
  });

  it("is refused where there is no such object, or its latest version is a delete marker", async () => {
    await using test = await TestStore.make();
    const objects = test.store.objects("bucket", { owner });
    await assert.rejects(async () => objects.file?.("one"), { code: "OBJECT_NOT_FOUND" });
    await test.store.updateBucket("bucket", { versioning: "enabled" });
    await objects.put("one", large);
    await objects.delete("one");
    await assert.rejects(async () => objects.file?.("one"), { code: "OBJECT_NOT_FOUND" });
  });
});
