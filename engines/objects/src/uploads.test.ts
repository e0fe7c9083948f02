import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import { owner, TestStore } from "./testing/store.ts";

const md5 = (bytes: Uint8Array | string) => createHash("md5").update(bytes).digest();

describe("uploads", () => {
  it("become one object whose ETag tells its parts", async () => {
    await using test = await TestStore.make();
    const checksum = { algorithm: "CRC32", type: "COMPOSITE" } as const;
    const attributes = { headers: { "content-type": "text/plain" } };
    const { id } = await test.store.createUpload("bucket", "a", { owner, attributes, checksum });
    const put = (number: number, text: string) =>
      test.store.putPart("bucket", "a", id, number, Buffer.from(text), {
        verify: () => ({ checksum: `sum of ${text}` }),
      });
    const first = await put(3, "first ");
    await put(5, "unused");
    await put(9, "replaced");
    const last = await put(9, "last");
    const { parts } = await test.store.parts("bucket", "a", id);
    assert.deepEqual(
      parts.map(({ number, checksum }) => [number, checksum]),
      [
        [3, "sum of first "],
        [5, "sum of unused"],
        [9, "sum of last"],
      ],
    );
    const version = await test.store.completeUpload("bucket", "a", id, [first, last], {
      finish: (all, upload) => {
        assert.deepEqual([all, upload.checksum], [[first, last], checksum]);
        return { checksum: { algorithm: "CRC32", type: "COMPOSITE", value: "whole" } };
      },
    });
    const etag = `${md5(Buffer.concat([md5("first "), md5("last")])).toString("hex")}-2`;
    assert.deepEqual([version.etag, version.sizeBytes, version.parts], [etag, 10, [first, last]]);
    assert.equal(version.attributes.checksum?.value, "whole");
    assert.deepEqual(version.attributes.headers, attributes.headers);
    assert.equal(await test.text("a"), "first last");
    await using opened = await test.store.open("bucket", "a");
    assert.deepEqual(opened.version, version);
    const middle: Uint8Array[] = [];
    for await (const piece of opened.read({ start: 4, end: 8 })) middle.push(piece);
    assert.equal(Buffer.concat(middle).toString(), "t la");
    assert.deepEqual(await test.store.usage("bucket"), { objects: 1, bytes: 10, versions: 1, uploads: 0 });
  });

  it("can be completed again with the same result, until the object is another", async () => {
    await using test = await TestStore.make();
    const { id } = await test.store.createUpload("bucket", "a", { owner });
    const part = await test.store.putPart("bucket", "a", id, 1, Buffer.from("x"));
    const complete = () => test.store.completeUpload("bucket", "a", id, [part]);
    const version = await complete();
    await test.reopen();
    assert.deepEqual(await complete(), version);
    await assert.rejects(test.store.putPart("bucket", "a", id, 2, Buffer.from("y")), {
      code: "UPLOAD_NOT_FOUND",
    });
    await test.put("a", "another");
    await assert.rejects(complete(), { code: "UPLOAD_NOT_FOUND" });
    assert.equal(await test.text("a"), "another");
  });

  it("refuse parts in the order in which S3 does", async () => {
    await using test = await TestStore.make({ minimumPartBytes: 3 });
    const { id } = await test.store.createUpload("bucket", "a", { owner });
    const one = await test.store.putPart("bucket", "a", id, 1, Buffer.from("1"));
    const two = await test.store.putPart("bucket", "a", id, 2, Buffer.from("2"));
    const complete = (parts: object[], key = "a", condition = {}) =>
      test.store.completeUpload("bucket", key, id, parts as [], { condition });
    await assert.rejects(complete([one], "b"), { code: "UPLOAD_NOT_FOUND" });
    await assert.rejects(complete([two, { number: 1, etag: "wrong" }]), { code: "PART_ORDER" });
    await assert.rejects(complete([one, one]), { code: "PART_ORDER" });
    await assert.rejects(complete([one, { ...two, etag: "wrong" }]), { code: "PART_INVALID" });
    await assert.rejects(complete([one, { ...two, checksum: "wrong" }]), { code: "PART_INVALID" });
    await assert.rejects(complete([]), { code: "PART_INVALID" });
    await assert.rejects(complete([one, two], "a", { ifMatch: "x" }), { code: "PART_TOO_SMALL" });
    await test.put("a", "there");
    await assert.rejects(complete([two], "a", { ifNoneMatch: "*" }), { code: "PRECONDITION_FAILED" });
    assert.equal((await complete([two])).sizeBytes, 1);
    for (const number of [0, 10_001, 1.5]) {
      await assert.rejects(test.store.putPart("bucket", "a", id, number, Buffer.from("x")), {
        code: "PART_INVALID",
      });
    }
  });

  it("leave nothing when they are aborted", async () => {
    await using test = await TestStore.make();
    const { id } = await test.store.createUpload("bucket", "a", { owner });
    await test.store.putPart("bucket", "a", id, 1, Buffer.from("x"));
    await test.store.abortUpload("bucket", "a", id);
    await assert.rejects(test.store.abortUpload("bucket", "a", id), { code: "UPLOAD_NOT_FOUND" });
    await assert.rejects(test.store.upload("bucket", "a", id), { code: "UPLOAD_NOT_FOUND" });
    assert.deepEqual(await test.store.sweep(), { removed: 0 });
    assert.equal((await test.store.usage("bucket")).uploads, 0);
  });

  it("are listed by key and then by age, page by page", async () => {
    await using test = await TestStore.make();
    const expected: string[] = [];
    for (const key of ["a", "a", "b/x", "c", "c"]) {
      expected.push((await test.store.createUpload("bucket", key, { owner })).id);
    }
    const seen: string[] = [];
    let marker = {};
    for (;;) {
      const page = await test.store.uploads("bucket", { ...marker, limit: 1 });
      seen.push(...page.uploads.map(({ id }) => id));
      if (!page.truncated) break;
      marker = { keyMarker: page.nextKeyMarker, uploadMarker: page.nextUploadMarker };
    }
    assert.deepEqual(seen, expected);
    const grouped = await test.store.uploads("bucket", { delimiter: "/", keyMarker: "a" });
    assert.deepEqual([grouped.uploads.length, grouped.prefixes], [2, ["b/"]]);
  });

  it("list their parts page by page", async () => {
    await using test = await TestStore.make();
    const { id } = await test.store.createUpload("bucket", "a", { owner });
    for (const number of [10_000, 2, 7])
      await test.store.putPart("bucket", "a", id, number, Buffer.from("x"));
    const first = await test.store.parts("bucket", "a", id, { limit: 2 });
    assert.deepEqual([first.parts.map(({ number }) => number), first.next], [[2, 7], 7]);
    const second = await test.store.parts("bucket", "a", id, { after: 7, limit: 1 });
    assert.deepEqual([second.parts.map(({ number }) => number), second.next], [[10_000], undefined]);
  });
});
