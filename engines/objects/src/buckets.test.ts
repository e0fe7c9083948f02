import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { owner, TestStore } from "./testing/store.ts";

describe("buckets", () => {
  it("keep their settings, and are there again after opening", async () => {
    await using test = await TestStore.make({ clock: () => 1000 });
    await test.store.updateBucket("bucket", { settings: { policy: { a: [1] }, tags: "x" } });
    await test.store.updateBucket("bucket", { settings: { tags: undefined }, versioning: "enabled" });
    const expected = {
      name: "bucket",
      createdAt: 1000,
      owner,
      versioning: "enabled",
      settings: { policy: { a: [1] } },
    };
    assert.deepEqual(await test.store.bucket("bucket"), expected);
    await test.reopen();
    assert.deepEqual(await test.store.bucket("bucket"), expected);
  });

  it("are made once, whoever asks", async () => {
    await using test = await TestStore.make();
    const again = test.store.createBucket("bucket", { owner: "another" });
    await assert.rejects(again, { code: "BUCKET_EXISTS", details: { owner } });
  });

  it("are listed by name, owner and prefix", async () => {
    await using test = await TestStore.make();
    await test.store.createBucket("a", { owner: "another" });
    await test.store.createBucket("books", { owner });
    const names = async (request: object) => (await test.store.buckets(request)).map(({ name }) => name);
    assert.deepEqual(await names({}), ["a", "books", "bucket"]);
    assert.deepEqual(await names({ owner, prefix: "bu" }), ["bucket"]);
    assert.deepEqual(await names({ after: "a", limit: 1 }), ["books"]);
  });

  it("go only when no version is left; unfinished uploads go with them", async () => {
    await using test = await TestStore.make();
    await test.store.updateBucket("bucket", { versioning: "enabled" });
    const { versionId } = await test.store.delete("bucket", "a", { owner });
    await assert.rejects(test.store.deleteBucket("bucket"), { code: "BUCKET_NOT_EMPTY" });
    await test.store.delete("bucket", "a", { owner, versionId: versionId ?? "" });
    const { id } = await test.store.createUpload("bucket", "b", { owner });
    await test.store.putPart("bucket", "b", id, 1, Buffer.from("part"));
    await test.store.deleteBucket("bucket");
    for (const call of [
      () => test.store.bucket("bucket"),
      () => test.store.deleteBucket("bucket"),
      () => test.store.usage("bucket"),
      () => test.put("a", "x"),
      () => test.store.list("bucket"),
      () => test.store.upload("bucket", "b", id),
    ]) {
      await assert.rejects(call, { code: "BUCKET_NOT_FOUND", message: /"bucket"/ });
    }
    await test.store.createBucket("bucket", { owner });
    assert.deepEqual(await test.store.usage("bucket"), { objects: 0, bytes: 0, versions: 0, uploads: 0 });
    assert.deepEqual((await test.store.uploads("bucket")).uploads, []);
    const left: unknown[] = [];
    for await (const finding of test.store.check()) left.push(finding);
    assert.deepEqual(left, []);
  });
});
