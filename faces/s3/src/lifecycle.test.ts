import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { type Bucket, EmbeddedStore, type Json, type ObjectVersion } from "@skep/objects";
import { parseLifecycle } from "./configuration/lifecycle-rules.ts";
import { expirationHeader, type LifecyclePosition, runLifecycle } from "./lifecycle.ts";
import { parseXml } from "./xml.ts";

const dayMs = 86_400_000;
const start = Date.UTC(2026, 0, 1, 12);
const owner = "a".repeat(64);

const parse = (...rules: string[]) =>
  parseLifecycle(
    parseXml(`<LifecycleConfiguration>${rules.join("")}</LifecycleConfiguration>`, "LifecycleConfiguration"),
  );
const rule = (inner: string, filter = "<Filter/>", id = "r") =>
  `<Rule><ID>${id}</ID>${filter}<Status>Enabled</Status>${inner}</Rule>`;
const expire = (inner: string) => `<Expiration>${inner}</Expiration>`;
const days = (n: number) => expire(`<Days>${n}</Days>`);

/** A store whose days pass when told so. */
async function timeMachine() {
  const directory = await mkdtemp("/tmp/skep-lc-");
  let now = start;
  const store = await EmbeddedStore.open({ directory: join(directory, "objects"), clock: () => now });
  const warnings: object[] = [];
  return {
    store,
    warnings,
    pass: (count: number) => {
      now += count * dayMs;
    },
    bucket: async (rules: string[], versioned = false, name = "pail") => {
      await store.createBucket(name, { owner });
      await store.updateBucket(name, {
        ...(versioned ? { versioning: "enabled" as const } : {}),
        settings: { lifecycle: parse(...rules) as unknown as Json },
      });
    },
    put: (key: string, sizeBytes = 1, tags?: Record<string, string>) =>
      store.put("pail", key, new Uint8Array(sizeBytes), { owner, ...(tags ? { attributes: { tags } } : {}) }),
    run: (from?: LifecyclePosition, signal = new AbortController().signal) =>
      runLifecycle(
        { store, clock: { now: () => now }, log: { info() {}, warn: (f) => warnings.push(f) }, signal },
        from,
      ),
    keys: async () => (await store.list("pail")).objects.map(({ key }) => key),
    versions: async () =>
      (await store.listVersions("pail")).versions.map((one) => `${one.key}${one.deleteMarker ? "!" : ""}`),
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await rm(directory, { recursive: true });
    },
  };
}

test("rules that S3 refuses", () => {
  const table: [string[], string][] = [
    [[], "MalformedXML"],
    [["<Other/>"], "MalformedXML"],
    [[rule("")], "InvalidRequest"],
    [[rule(days(0))], "InvalidArgument"],
    [[rule(days(1), "")], "MalformedXML"],
    [[rule(days(1), "<Prefix>a</Prefix><Filter/>")], "MalformedXML"],
    [[rule(days(1)).replace("Enabled", "enabled")], "MalformedXML"],
    [[rule(days(1)), rule(days(2))], "InvalidArgument"],
    [[rule(days(1), "<Filter/>", "x".repeat(256))], "InvalidArgument"],
    [[rule(expire("<Days>x</Days>"))], "MalformedXML"],
    [[rule(expire("<Days>1</Days><Date>2026-01-01</Date>"))], "MalformedXML"],
    [[rule(expire("<Date>20260101</Date>"))], "MalformedXML"],
    [[rule(expire("<Date>2026-01-01T01:00:00Z</Date>"))], "InvalidArgument"],
    [[rule(expire("<ExpiredObjectDeleteMarker>yes</ExpiredObjectDeleteMarker>"))], "MalformedXML"],
    [[rule("<NoncurrentVersionExpiration/>")], "MalformedXML"],
    [
      [
        rule(
          "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>",
          "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>",
        ),
      ],
      "InvalidRequest",
    ],
    [
      [rule(`${days(2)}<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>`)],
      "NotImplemented",
    ],
    [
      [
        rule(
          days(1),
          "<Filter><ObjectSizeGreaterThan>9</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan></Filter>",
        ),
      ],
      "InvalidArgument",
    ],
    [Array.from({ length: 1001 }, (_, i) => rule(days(1), "<Filter/>", `r${i}`)), "MalformedXML"],
  ];
  for (const [rules, code] of table) {
    assert.throws(() => parse(...rules), { code }, rules.join("").slice(0, 200));
  }
});

test("objects go at the midnight after their days, those whose prefix, tags and size fit", async () => {
  await using t = await timeMachine();
  const filter =
    "<Filter><And><Prefix>log/</Prefix><Tag><Key>keep</Key><Value>no</Value></Tag><ObjectSizeGreaterThan>10</ObjectSizeGreaterThan><ObjectSizeLessThan>100</ObjectSizeLessThan></And></Filter>";
  await t.bucket([rule(days(2), filter)]);
  const no = { keep: "no" };
  await t.put("log/fits", 50, { ...no, more: "x" });
  await t.put("log/small", 10, no);
  await t.put("log/large", 100, no);
  await t.put("log/tag", 50, { keep: "yes" });
  await t.put("log/none", 50);
  await t.put("other", 50, no);
  t.pass(2);
  assert.equal((await t.run()).expired, 0, "two days have passed, but not the midnight after");
  t.pass(0.5);
  assert.equal((await t.run()).expired, 1);
  assert.deepEqual(await t.keys(), ["log/large", "log/none", "log/small", "log/tag", "other"]);
});

test("a date, and a rule that is disabled", async () => {
  await using t = await timeMachine();
  await t.bucket([
    rule(expire("<Date>2026-01-03</Date>"), "<Filter><Prefix>a</Prefix></Filter>", "a"),
    rule(days(1), "<Filter><Prefix>b</Prefix></Filter>", "b").replace("Enabled", "Disabled"),
  ]);
  await t.put("a");
  await t.put("b");
  await t.run();
  assert.deepEqual(await t.keys(), ["a", "b"]);
  t.pass(30);
  await t.run();
  assert.deepEqual(await t.keys(), ["b"]);
});

test("with versioning an object expires behind a marker; old versions go by their own rule", async () => {
  await using t = await timeMachine();
  const noncurrent =
    "<NoncurrentVersionExpiration><NoncurrentDays>3</NoncurrentDays><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
  await t.bucket([rule(days(10) + noncurrent)], true);
  for (const _ of [1, 2, 3]) {
    await t.put("a");
    t.pass(1);
  }
  assert.deepEqual(await t.versions(), ["a", "a", "a"]);
  await t.run();
  assert.deepEqual(await t.versions(), ["a", "a", "a"], "superseded for too short a time");
  t.pass(3);
  await t.run();
  assert.deepEqual(await t.versions(), ["a", "a"], "one noncurrent version is kept");
  t.pass(8);
  await t.run();
  assert.deepEqual(await t.versions(), ["a!", "a", "a"]);
  t.pass(5);
  await t.run();
  assert.deepEqual(await t.versions(), ["a!", "a"]);
});

test("a marker goes when it hides nothing any more", async () => {
  await using t = await timeMachine();
  const noncurrent =
    "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>";
  const markers = expire("<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>");
  await t.bucket([rule(noncurrent + markers, "<Filter><Prefix>a</Prefix></Filter>")], true);
  for (const key of ["a", "b"]) {
    await t.put(key);
    await t.store.delete("pail", key, { owner });
  }
  await t.run();
  assert.deepEqual(await t.versions(), ["a!", "a", "b!", "b"]);
  t.pass(2);
  await t.run();
  assert.deepEqual(await t.versions(), ["b!", "b"]);
});

test("uploads that are never finished are aborted", async () => {
  await using t = await timeMachine();
  const abort =
    "<AbortIncompleteMultipartUpload><DaysAfterInitiation>2</DaysAfterInitiation></AbortIncompleteMultipartUpload>";
  await t.bucket([rule(abort, "<Filter><Prefix>a</Prefix></Filter>")]);
  await t.store.createUpload("pail", "a1", { owner });
  await t.store.createUpload("pail", "b1", { owner });
  t.pass(3);
  await t.store.createUpload("pail", "a2", { owner });
  assert.equal((await t.run()).abortedUploads, 1);
  assert.deepEqual(
    (await t.store.uploads("pail")).uploads.map(({ key }) => key),
    ["a2", "b1"],
  );
});

test("what was written meanwhile stays", async () => {
  await using t = await timeMachine();
  await t.bucket([rule(days(1))]);
  await t.put("a");
  t.pass(3);
  const { store } = t;
  const list = store.listVersions.bind(store);
  store.listVersions = async (...args) => {
    const page = await list(...args);
    await t.put("a", 2);
    return page;
  };
  assert.equal((await t.run()).expired, 0);
  assert.equal((await store.head("pail", "a")).sizeBytes, 2);
});

test("a walk goes over pages and keys of many versions, and goes on where it was stopped", async () => {
  await using t = await timeMachine();
  const noncurrent =
    "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration>";
  await t.bucket([rule(noncurrent)], true);
  await t.bucket([rule(days(1))], false, "later");
  await Promise.all(
    Array.from({ length: 2100 }, (_, i) =>
      t.store.put("pail", i < 1500 ? "many" : `one-${i}`, new Uint8Array(1), { owner }),
    ),
  );
  t.pass(3);
  const stop = new AbortController();
  const { store } = t;
  const list = store.listVersions.bind(store);
  let pages = 0;
  store.listVersions = async (...args) => {
    if (++pages === 2) stop.abort();
    return list(...args);
  };
  const first = await t.run(undefined, stop.signal);
  assert.equal(first.stoppedAt?.bucket, "pail");
  const second = await t.run(first.stoppedAt);
  assert.equal(second.stoppedAt, undefined);
  assert.equal(first.removedVersions + second.removedVersions, 1499);
  assert.equal((await t.store.usage("pail")).versions, 601);
});

test("a bucket that fails keeps no other from being tidied", async () => {
  await using t = await timeMachine();
  await t.bucket([rule(days(1))], false, "broken");
  await t.bucket([rule(days(1))]);
  await t.put("a");
  t.pass(3);
  const { store } = t;
  const list = store.listVersions.bind(store);
  store.listVersions = (name, request) =>
    name === "broken" ? Promise.reject(new Error("no")) : list(name, request);
  assert.equal((await t.run()).expired, 1);
  assert.equal(t.warnings.length, 1);
});

test("an object tells when the first rule will let it go", () => {
  const bucket = (...rules: string[]) =>
    ({ settings: { lifecycle: parse(...rules) as unknown as Json } }) as unknown as Bucket;
  const object = {
    ...{ key: "log/a", sizeBytes: 5, etag: "", versionId: "null", owner, deleteMarker: false },
    ...{ isLatest: true, modifiedAt: start, attributes: { tags: { a: "b" } } },
  } satisfies ObjectVersion;
  const soon = rule(days(1), "<Filter><Prefix>log/</Prefix></Filter>", 'so"on');
  const late = rule(days(9), "<Filter><Tag><Key>a</Key><Value>b</Value></Tag></Filter>", "late");
  assert.equal(
    expirationHeader(bucket(late, soon), object),
    'expiry-date="Sat, 03 Jan 2026 00:00:00 GMT", rule-id="so%22on"',
  );
  assert.match(expirationHeader(bucket(late), object) ?? "", /11 Jan 2026.*"late"/);
  assert.equal(expirationHeader(bucket(soon), { ...object, key: "x" }), undefined);
  assert.equal(expirationHeader(bucket(soon), { ...object, isLatest: false }), undefined);
});
