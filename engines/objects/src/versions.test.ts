import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { owner, TestStore } from "./testing/store.ts";

describe("versions", () => {
  it("without versioning, a put replaces the null version and a delete leaves nothing", async () => {
    await using test = await TestStore.make();
    assert.equal((await test.put("a", "one")).versionId, "null");
    assert.equal((await test.put("a", "two")).versionId, "null");
    assert.equal((await test.store.listVersions("bucket")).versions.length, 1);
    assert.deepEqual(await test.store.delete("bucket", "a", { owner }), { deleteMarker: false });
    assert.deepEqual(await test.store.usage("bucket"), { objects: 0, bytes: 0, versions: 0, uploads: 0 });
  });

  it("with versioning, every put is kept under an id of its own and a delete is a marker", async () => {
    await using test = await TestStore.make();
    await test.put("a", "before");
    await test.store.updateBucket("bucket", { versioning: "enabled" });
    const one = await test.put("a", "one");
    const two = await test.put("a", "two");
    assert.match(one.versionId, /^[A-Za-z0-9_-]{32}$/);
    const marker = await test.store.delete("bucket", "a", { owner });
    assert.equal(marker.deleteMarker, true);
    const { versions } = await test.store.listVersions("bucket");
    assert.deepEqual(
      versions.map((version) => [version.versionId, version.isLatest, version.deleteMarker]),
      [
        [marker.versionId, true, true],
        [two.versionId, false, false],
        [one.versionId, false, false],
        ["null", false, false],
      ],
    );
    assert.deepEqual((await test.store.list("bucket")).objects, []);
    assert.equal((await test.store.head("bucket", "a")).deleteMarker, true);
    assert.equal(await test.text("a", one.versionId), "one");
    assert.equal(await test.text("a", "null"), "before");
    await assert.rejects(test.store.head("bucket", "a", "x".repeat(32)), { code: "VERSION_NOT_FOUND" });
    await assert.rejects(test.store.head("bucket", "b"), { code: "OBJECT_NOT_FOUND" });

    const removed = await test.store.delete("bucket", "a", { owner, versionId: marker.versionId ?? "" });
    assert.deepEqual(removed, { deleteMarker: true, versionId: marker.versionId });
    assert.equal((await test.store.head("bucket", "a")).versionId, two.versionId);
    await test.store.delete("bucket", "a", { owner, versionId: two.versionId });
    assert.equal(await test.text("a"), "one");
    assert.equal((await test.store.list("bucket")).objects[0]?.versionId, one.versionId);
  });

  it("where versioning is suspended, puts and markers replace the null version only", async () => {
    await using test = await TestStore.make();
    await test.put("a", "first");
    await test.store.updateBucket("bucket", { versioning: "enabled" });
    const kept = await test.put("a", "kept");
    await test.store.updateBucket("bucket", { versioning: "suspended" });
    await test.put("a", "second");
    await test.put("a", "third");
    const ids = async () =>
      (await test.store.listVersions("bucket")).versions.map((version) => version.versionId);
    assert.deepEqual(await ids(), ["null", kept.versionId]);
    assert.deepEqual(await test.store.delete("bucket", "a", { owner }), {
      deleteMarker: true,
      versionId: "null",
    });
    assert.deepEqual(await ids(), ["null", kept.versionId]);
    await test.store.delete("bucket", "a", { owner, versionId: "null" });
    assert.equal(await test.text("a"), "kept");
  });

  it("pages through versions, also of one key, whatever is removed meanwhile", async () => {
    await using test = await TestStore.make();
    await test.store.updateBucket("bucket", { versioning: "enabled" });
    const expected: string[] = [];
    for (const key of ["a", "b/1", "b/2", "c"]) {
      const ids: string[] = [];
      for (let i = 0; i < 5; i += 1) ids.unshift((await test.put(key, `${i}`)).versionId);
      expected.push(...ids);
    }
    const seen: string[] = [];
    let marker: { keyMarker?: string; versionMarker?: string } = {};
    for (;;) {
      const page = await test.store.listVersions("bucket", { ...marker, limit: 3 });
      seen.push(...page.versions.map((version) => version.versionId));
      for (const version of page.versions) {
        assert.equal(
          version.isLatest,
          (await test.store.head("bucket", version.key)).versionId === version.versionId,
        );
      }
      if (!page.truncated) break;
      marker = { keyMarker: page.nextKeyMarker ?? "", versionMarker: page.nextVersionMarker ?? "" };
    }
    assert.deepEqual(seen, expected);
    const grouped = await test.store.listVersions("bucket", { delimiter: "/", keyMarker: "a" });
    assert.deepEqual([grouped.prefixes, grouped.versions.length], [["b/"], 5]);
    const last = expected[4] as string;
    await test.store.delete("bucket", "a", { owner, versionId: last });
    const rest = await test.store.listVersions("bucket", { keyMarker: "a", versionMarker: last, limit: 1 });
    assert.equal(rest.versions[0]?.key, "b/1");
  });

  it("changes tags and ACL in place and leaves the rest", async () => {
    await using test = await TestStore.make();
    const attributes = { metadata: { m: "1" }, tags: { old: "1" }, acl: ["someone"] };
    const put = await test.store.put("bucket", "a", Buffer.from("bytes"), { owner, attributes });
    const changed = await test.store.setAttributes("bucket", "a", undefined, { tags: { new: "2" } });
    assert.deepEqual(changed, { ...put, attributes: { ...attributes, tags: { new: "2" } } });
    await test.store.setAttributes("bucket", "a", "null", { tags: undefined, acl: { x: true } });
    assert.deepEqual((await test.store.head("bucket", "a")).attributes, {
      metadata: { m: "1" },
      acl: { x: true },
    });
    assert.equal(await test.text("a"), "bytes");
    await test.put("large", Buffer.alloc(300_000, 1));
    await test.store.setAttributes("bucket", "large", undefined, { tags: { t: "" } });
    assert.equal((await test.read("large")).length, 300_000);
    await assert.rejects(test.store.setAttributes("bucket", "none", undefined, {}), {
      code: "OBJECT_NOT_FOUND",
    });
  });

  it("deletes on condition of time and size", async () => {
    await using test = await TestStore.make({ clock: () => 1_700_000_000_500 });
    await test.put("a", "12345");
    const remove = (condition: object) => test.store.delete("bucket", "a", { owner, condition });
    await assert.rejects(remove({ ifSizeBytes: 4 }), { code: "PRECONDITION_FAILED" });
    await assert.rejects(remove({ ifModifiedAt: 1_700_000_001_000 }), { code: "PRECONDITION_FAILED" });
    await remove({ ifModifiedAt: 1_700_000_000_000, ifSizeBytes: 5, ifMatch: "*" });
    await assert.rejects(test.store.head("bucket", "a"), { code: "OBJECT_NOT_FOUND" });
  });
});
