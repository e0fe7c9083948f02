import assert from "node:assert/strict";
import { test } from "node:test";
import { checkPostPolicy } from "./post-policy.ts";

const now = Date.UTC(2026, 0, 1);
const encode = (policy: unknown) => Buffer.from(JSON.stringify(policy)).toString("base64");
const policyOf = (...conditions: unknown[]) => encode({ expiration: "2026-01-02T00:00:00Z", conditions });
const fields = { bucket: "pail", key: "foo/a.txt", acl: "private", "content-type": "text/plain" };
const covering = [{ bucket: "pail" }, ["starts-with", "$key", "foo/"], { acl: "private" }];
const type = ["starts-with", "$Content-Type", "text/"];

test("a form whose every field fits passes, with the sizes its file may have", () => {
  assert.equal(checkPostPolicy(policyOf(...covering, type), fields, now), undefined);
  const limits = ["content-length-range", 1, "10"];
  assert.deepEqual(checkPostPolicy(policyOf(...covering, type, limits), fields, now), { least: 1, most: 10 });
  const cased = [{ bUcKeT: "pail" }, ["StArTs-WiTh", "$KeY", "foo/"], ["eq", "$AcL", "private"], type];
  assert.equal(checkPostPolicy(policyOf(...cased), fields, now), undefined);
  const free = { "x-ignore-this": "1", "x-amz-signature": "s", policy: "p", file: "f", awsaccesskeyid: "a" };
  assert.equal(checkPostPolicy(policyOf(...covering, type), { ...fields, ...free }, now), undefined);
  assert.deepEqual(
    checkPostPolicy(policyOf(...covering, type, limits, ["content-length-range", 0, 5]), fields, now),
    { least: 1, most: 5 },
  );
});

test("a form that breaks its policy is denied", () => {
  const denied = { code: "AccessDenied", message: /Invalid according to Policy/ };
  const table: [unknown[], Record<string, string>][] = [
    [[...covering, type], { ...fields, key: "bar" }],
    [[...covering, type], { ...fields, acl: "public-read" }],
    [[...covering, type], { ...fields, bucket: "other" }],
    [[...covering, type], { ...fields, "content-type": "text/plain,image/png" }],
    [[...covering, type], { ...fields, "x-amz-meta-extra": "1" }],
    [[...covering, type, { "x-amz-meta-wanted": "1" }], fields],
    [covering, fields],
    [[], fields],
  ];
  for (const [conditions, given] of table) {
    assert.throws(() => checkPostPolicy(policyOf(...conditions), given, now), denied, JSON.stringify(given));
  }
  assert.throws(() => checkPostPolicy(policyOf(...covering, type), fields, now + 2 * 86_400_000), denied);
});

test("a policy that is not exactly one is refused", () => {
  const expiration = "2026-01-02T00:00:00Z";
  const table: unknown[] = [
    [],
    { expiration },
    { conditions: [] },
    { expiration, conditions: {} },
    { expiration, CONDITIONS: [] },
    { EXPIRATION: expiration, conditions: [] },
    { expiration: "2026-01-02 00:00:00+00:00", conditions: [] },
    { expiration: 5, conditions: [] },
    { expiration, conditions: [], more: 1 },
    { expiration, conditions: [{}] },
    { expiration, conditions: ["x"] },
    { expiration, conditions: [{ key: 5 }] },
    { expiration, conditions: [["content-length-range", -1, 5]] },
    { expiration, conditions: [["content-length-range", 0]] },
    { expiration, conditions: [["ends-with", "$key", "a"]] },
    { expiration, conditions: [["eq", "key", "a"]] },
    { expiration, conditions: [["eq", "$key"]] },
  ];
  for (const policy of table) {
    assert.throws(() => checkPostPolicy(encode(policy), fields, now), { code: "InvalidPolicyDocument" });
  }
  assert.throws(() => checkPostPolicy("%%%", fields, now), { code: "InvalidPolicyDocument" });
});
