import assert from "node:assert/strict";
import { test } from "node:test";
import { xmlText } from "./answer.ts";
import { parseObjectPath, parseOneObject, relativeFile } from "./object-path.ts";
import { crcText, partBytes } from "./upload.ts";

test("a path is a bucket and a key as it is", () => {
  assert.deepEqual(parseObjectPath("data"), { bucket: "data", key: "" });
  assert.deepEqual(parseObjectPath("s3://data/a/../b//c "), { bucket: "data", key: "a/../b//c " });
  assert.deepEqual(parseObjectPath("data/line\nbreak"), { bucket: "data", key: "line\nbreak" });
  for (const bad of ["", "/", "/data/x", "../x", "s3://", "a", "-a/b"]) {
    assert.throws(() => parseObjectPath(bad), { code: "OBJECT_PATH" }, bad);
  }
  for (const bad of ["data", "data/"]) assert.throws(() => parseOneObject(bad), { code: "OBJECT_PATH" }, bad);
});

test("no key leads out of the directory that it is fetched into", () => {
  assert.equal(relativeFile("a/b/c", "a/"), "b/c");
  assert.equal(relativeFile("a/b/", "a/"), "b/");
  for (const key of ["../x", "a/../../x", "/etc/passwd", "a//b", ".", "..", "a/.", "nul\0", "", "/"]) {
    assert.equal(relativeFile(key, ""), undefined, JSON.stringify(key));
  }
});

test("ten thousand parts hold the largest object, and small objects need one of 16 MiB", () => {
  let total = 0;
  for (let number = 1; number <= 10_000; number += 1) total += partBytes(number);
  assert.ok(total > 5 * 1024 ** 4);
  assert.equal(partBytes(1), 16 * 1024 ** 2);
  // 5 GiB, the most that a part may have, is not reached before 5 TiB are
  let reached = 0;
  let number = 0;
  while (reached < 5 * 1024 ** 4) {
    number += 1;
    reached += partBytes(number);
  }
  assert.ok(partBytes(number) <= 5 * 1024 ** 3);
});

test("S3's small XML is read, entities too, and hostile ones do no harm", () => {
  assert.equal(xmlText("<a><Code>A&amp;&#66;&#x43;&lt;</Code></a>", "Code"), "A&BC<");
  assert.equal(xmlText("<Code>&#x7fffffff;&unknown;</Code>", "Code"), "\u{10ffff}&unknown;");
  assert.equal(xmlText("<Code>", "Code"), undefined);
  assert.equal(crcText(0xcbf43926), "y/Q5Jg==");
});
