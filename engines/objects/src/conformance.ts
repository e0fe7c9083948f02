import { deepEqual, equal, notEqual, ok, rejects } from "node:assert/strict";
import { createHash, hash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { SkepError } from "@skep/base";
import type { Bytes, ObjectStore } from "./types.ts";

/** A store to be tried, and what it cannot do. */
export interface Candidate extends AsyncDisposable {
  store: ObjectStore;
  /** Conditional deletes and completions are refused instead (FOREIGN_CONDITIONS). */
  refuses?: readonly ("delete" | "completion")[];
  /** Of the prefix that is added to every key. */
  prefixBytes?: number;
}

const mib = 1024 * 1024;

/** What every ObjectStore does. The bucket is shared with nothing else. */
export function objectStoreBehaviour(name: string, make: () => Promise<Candidate>): void {
  describe(name, () => {
    let candidate: Candidate;
    let store: ObjectStore;
    before(async () => {
      candidate = await make();
      store = candidate.store;
    });
    after(() => candidate?.[Symbol.asyncDispose]());

    test("gives back what was put, with its metadata", async () => {
      const bytes = randomBytes(1000);
      const put = await store.put("basic/one", bytes, { metadata: { color: "green", "two-words": "a b" } });
      equal(put.key, "basic/one");
      equal(put.sizeBytes, 1000);
      equal(put.etag, hash("md5", bytes, "hex"));
      const got = await store.get("basic/one");
      deepEqual(await collect(got.body), bytes);
      deepEqual(got.metadata, { color: "green", "two-words": "a b" });
      deepEqual(got.range, { start: 0, end: 1000 });
      equal(got.etag, put.etag);
      const head = await store.head("basic/one");
      deepEqual({ ...head, modifiedAt: 0 }, { ...put, modifiedAt: 0, metadata: got.metadata });
      ok(Math.abs(head.modifiedAt - Date.now()) < 3600_000);
    });

    test("keeps what was put, whatever its giver does with the buffer", async () => {
      const bytes = Buffer.from("as it was");
      await store.put("basic/own", bytes);
      bytes.fill(0);
      equal(String(await read(store, "basic/own")), "as it was");
    });

    test("replaces an object as a whole", async () => {
      await store.put("basic/two", bytesOf("first and longer"), { metadata: { a: "1" } });
      await store.put("basic/two", bytesOf("second"));
      equal(String(await read(store, "basic/two")), "second");
      deepEqual((await store.head("basic/two")).metadata, {});
    });

    test("keeps empty objects", async () => {
      await store.put("basic/empty", new Uint8Array());
      await store.put("basic/empty-stream", pieces());
      for (const key of ["basic/empty", "basic/empty-stream"]) {
        const got = await store.get(key);
        equal(got.sizeBytes, 0);
        equal((await collect(got.body)).length, 0);
        equal((await collect((await store.get(key, { range: { start: 0 } })).body)).length, 0);
      }
    });

    test("says what is not there", async () => {
      await refused("OBJECT_NOT_FOUND", store.get("nothing"));
      await refused("OBJECT_NOT_FOUND", store.head("nothing"));
      await store.delete("nothing");
    });

    test("forgets what was deleted", async () => {
      await store.put("basic/gone", bytesOf("x"));
      await store.delete("basic/gone");
      await refused("OBJECT_NOT_FOUND", store.get("basic/gone"));
      await store.delete("basic/gone");
    });

    test("takes any key of 1 to 1024 bytes", async () => {
      const longest = 1024 - (candidate.prefixBytes ?? 0);
      const keys = [
        "a/../b/./c",
        "a//b/",
        "/leading",
        "with space + plus & and = % ? #",
        "line\nbreak\ttab",
        "ünïcödé/日本語/🐝",
        "\u0001control",
        '<xml a="b">&amp;',
        "%2F%zz",
        "k".repeat(longest),
        "é".repeat(Math.floor(longest / 2)),
      ].map((key) => (/^[ké]+$/.test(key) ? key : `keys/${key}`));
      for (const key of keys) await store.put(key, bytesOf(key));
      for (const key of keys) equal(String(await read(store, key)), key.toWellFormed(), JSON.stringify(key));
      const listed = await listAll(store, { prefix: "keys/" });
      deepEqual(listed.keys, keys.filter((key) => key.startsWith("keys/")).sort(byBytes));
      for (const key of keys) await store.delete(key);
      await refused("KEY_INVALID", store.put("", bytesOf("x")));
      await refused("KEY_INVALID", store.put("k".repeat(longest + 1), bytesOf("x")));
    });

    test("serves ranges of every form", async () => {
      const bytes = randomBytes(300_000);
      await store.put("range", bytes);
      for (const [start, end] of [
        [0, 1],
        [0, 300_000],
        [299_999, 300_000],
        [100, 200_000],
        [299_990, 400_000],
        [65_535, 65_537],
      ] as const) {
        const got = await store.get("range", { range: { start, end } });
        deepEqual(got.range, { start, end: Math.min(end, 300_000) });
        equal(got.sizeBytes, 300_000);
        deepEqual(await collect(got.body), bytes.subarray(start, end), `${start} to ${end}`);
      }
      deepEqual(await read(store, "range", { start: 299_000 }), bytes.subarray(299_000));
      deepEqual(await read(store, "range", { end: 10 }), bytes.subarray(0, 10));
      await refused("RANGE_INVALID", store.get("range", { range: { start: 300_000 } }));
      await refused("RANGE_INVALID", store.get("range", { range: { start: 5, end: 5 } }));
    });

    test("streams both ways", async () => {
      const size = 20 * mib + 12_345;
      const digest = createHash("sha256");
      const put = await store.put("large", hashed(generated(size, 1), digest), { sizeBytes: size });
      equal(put.sizeBytes, size);
      const back = createHash("sha256");
      let length = 0;
      for await (const bytes of (await store.get("large")).body) {
        back.update(bytes);
        length += bytes.length;
      }
      equal(length, size);
      equal(back.digest("hex"), digest.digest("hex"));
      const unannounced = await store.put("large-unannounced", generated(9 * mib, 2));
      equal(unannounced.sizeBytes, 9 * mib);
      equal((await store.head("large-unannounced")).sizeBytes, 9 * mib);
      deepEqual(
        await read(store, "large", { start: 8 * mib - 5, end: 8 * mib + 5 }),
        (await collect(generated(size, 1))).subarray(8 * mib - 5, 8 * mib + 5),
      );
      await store.delete("large");
      await store.delete("large-unannounced");
    });

    test("lets go of a body that is not read to its end", async () => {
      await store.put("partly", generated(4 * mib, 3), { sizeBytes: 4 * mib });
      for (let round = 0; round < 5; round += 1) {
        for await (const bytes of (await store.get("partly")).body) {
          ok(bytes.length > 0);
          break;
        }
      }
      equal((await read(store, "partly")).length, 4 * mib);
    });

    test("refuses a body of another length than announced, and changes nothing", async () => {
      await store.put("length", bytesOf("before"));
      for (const sizeBytes of [0, 2, 4, 30 * mib]) {
        await refused("BODY_SIZE", store.put("length", pieces("ab", "c"), { sizeBytes }));
      }
      await refused("BODY_SIZE", store.put("length", generated(9 * mib, 4), { sizeBytes: 9 * mib - 1 }));
      equal(String(await read(store, "length")), "before");
    });

    test("changes nothing where the body fails or the caller gives up", async () => {
      await store.put("failing", bytesOf("before"));
      const failure = new Error("the source broke");
      async function* broken(): Bytes {
        yield randomBytes(100_000);
        throw failure;
      }
      await rejects(store.put("failing", broken()), failure);
      await rejects(store.put("failing", broken(), { sizeBytes: 200_000 }), failure);
      await rejects(store.put("failing", broken(), { sizeBytes: 20 * mib }), failure);
      const controller = new AbortController();
      async function* slow(): Bytes {
        yield randomBytes(100_000);
        controller.abort();
        yield randomBytes(100_000);
      }
      await rejects(store.put("failing", slow(), { signal: controller.signal }), { name: "AbortError" });
      await rejects(store.get("failing", { signal: controller.signal }), { name: "AbortError" });
      equal(String(await read(store, "failing")), "before");
    });

    test("puts only where the condition holds", async () => {
      const first = await store.put("condition", bytesOf("1"), { ifNoneMatch: "*" });
      await refused("PRECONDITION_FAILED", store.put("condition", bytesOf("2"), { ifNoneMatch: "*" }));
      await refused(
        "PRECONDITION_FAILED",
        store.put("condition", bytesOf("2"), { ifMatch: hash("md5", "other", "hex") }),
      );
      const second = await store.put("condition", bytesOf("2"), {
        ifMatch: first.etag,
        metadata: { of: "mine" },
      });
      notEqual(second.etag, first.etag);
      deepEqual((await store.head("condition")).metadata, { of: "mine" });
      await refused("PRECONDITION_FAILED", store.put("condition", bytesOf("3"), { ifMatch: first.etag }));
      equal(String(await read(store, "condition")), "2");
      await store.delete("condition");
      await rejects(
        store.put("condition", bytesOf("4"), { ifMatch: second.etag }),
        (error: SkepError) => error.code === "OBJECT_NOT_FOUND" || error.code === "PRECONDITION_FAILED",
      );
      await refused("OBJECT_NOT_FOUND", store.get("condition"));
    });

    test("puts large bodies under a condition, too", async () => {
      const size = 17 * mib;
      const put = () =>
        store.put("condition-large", generated(size, 5), { ifNoneMatch: "*", sizeBytes: size });
      const first = await put();
      await refused("PRECONDITION_FAILED", put());
      const ifMatch = first.etag;
      const again = await store.put("condition-large", generated(size, 6), { ifMatch, sizeBytes: size });
      await refused(
        "PRECONDITION_FAILED",
        store.put("condition-large", generated(size, 5), { ifMatch: "0".repeat(32), sizeBytes: size }),
      );
      equal((await store.head("condition-large")).etag, again.etag);
      await store.delete("condition-large");
    });

    test("lets one of many conditional writers win", async () => {
      const writers = Array.from({ length: 8 }, (_, n) =>
        store.put("race", bytesOf(`${n}`), { ifNoneMatch: "*" }),
      );
      const results = await Promise.allSettled(writers);
      const won = results.flatMap((result, n) => (result.status === "fulfilled" ? [n] : []));
      equal(won.length, 1, `${won}`);
      equal(String(await read(store, "race")), `${won[0]}`);
    });

    test("gets only the version asked for", async () => {
      const { etag } = await store.put("match", bytesOf("x"));
      equal(String(await collect((await store.get("match", { ifMatch: etag })).body)), "x");
      await refused("PRECONDITION_FAILED", store.get("match", { ifMatch: "0".repeat(32) }));
    });

    test("deletes only where the condition holds, or refuses to", async () => {
      const { etag } = await store.put("delete-if", bytesOf("x"));
      if (candidate.refuses?.includes("delete")) {
        await refused("FOREIGN_CONDITIONS", store.delete("delete-if", { ifMatch: etag }));
        equal((await store.head("delete-if")).etag, etag);
        return;
      }
      await refused("PRECONDITION_FAILED", store.delete("delete-if", { ifMatch: "0".repeat(32) }));
      await store.delete("delete-if", { ifMatch: etag });
      await refused("OBJECT_NOT_FOUND", store.head("delete-if"));
    });

    listings(() => store);
    uploads(() => candidate);
  });
}

function listings(given: () => ObjectStore): void {
  const keys = ["a", "a/b", "a/c/d", "a/c/e", "b", "b/", "c/1", "c/2", "c0", "é", "日", "\u{ffff}", "🐝"];

  test("lists in the order of bytes, page by page", async () => {
    const store = given();
    for (const key of keys) await store.put(`list/${key}`, bytesOf(key));
    const sorted = keys.map((key) => `list/${key}`).sort(byBytes);
    deepEqual((await listAll(store, { prefix: "list/" })).keys, sorted);
    for (const limit of [1, 2, 5, keys.length, 1000]) {
      const { keys: paged, pages } = await listAll(store, { prefix: "list/", limit });
      deepEqual(paged, sorted, `pages of ${limit}`);
      equal(pages, Math.ceil(keys.length / limit));
    }
    const page = await store.list({ prefix: "list/", startAfter: "list/c/1" });
    deepEqual(
      page.objects.map(({ key }) => key),
      sorted.slice(sorted.indexOf("list/c/1") + 1),
    );
    const [first] = (await store.list({ prefix: "list/a", limit: 1 })).objects;
    const { metadata, ...info } = await store.head("list/a");
    deepEqual({ ...first, modifiedAt: 0 }, { ...info, modifiedAt: 0 });
  });

  test("groups keys by a delimiter, each group once", async () => {
    const store = given();
    for (const limit of [1, 2, 3, 1000]) {
      const { keys: listed, prefixes } = await listAll(store, { prefix: "list/", delimiter: "/", limit });
      deepEqual(prefixes, ["list/a/", "list/b/", "list/c/"], `pages of ${limit}`);
      deepEqual(
        listed,
        ["a", "b", "c0", "é", "日", "\u{ffff}", "🐝"].map((key) => `list/${key}`).sort(byBytes),
      );
    }
    deepEqual(await listAll(store, { prefix: "list/a/c/", delimiter: "/" }), {
      keys: ["list/a/c/d", "list/a/c/e"],
      prefixes: [],
      pages: 1,
    });
    deepEqual(await store.list({ prefix: "list/nothing" }), { objects: [], prefixes: [] });
  });
}

function uploads(given: () => Candidate): void {
  const part = 5 * mib;

  test("joins parts in their order, whatever the order in which they came", async () => {
    const { store } = given();
    const upload = await store.createUpload("upload", { metadata: { made: "in parts" } });
    const end = await upload.putPart(7, bytesOf("the end"));
    const replaced = await upload.putPart(2, generated(part, 20), { sizeBytes: part });
    const start = await upload.putPart(2, generated(part, 21), { sizeBytes: part });
    notEqual(start.etag, replaced.etag);
    await refused("OBJECT_NOT_FOUND", store.head("upload"));
    const made = await upload.complete([
      { number: 2, etag: start.etag },
      { number: 7, etag: end.etag },
    ]);
    equal(made.sizeBytes, part + 7);
    ok(made.etag.endsWith("-2"));
    const bytes = await read(store, "upload");
    deepEqual(bytes, Buffer.concat([await collect(generated(part, 21)), Buffer.from("the end")]));
    const { metadata, etag } = await store.head("upload");
    deepEqual(metadata, { made: "in parts" });
    equal(etag, made.etag);
    deepEqual(
      await read(store, "upload", { start: part - 2, end: part + 3 }),
      bytes.subarray(part - 2, part + 3),
    );
    await store.delete("upload");
  });

  test("refuses parts that are missing, changed, too small or out of order", async () => {
    const { store } = given();
    const upload = await store.createUpload("upload-bad");
    const small = { number: 1, ...(await upload.putPart(1, bytesOf("small"))) };
    const last = { number: 2, ...(await upload.putPart(2, bytesOf("last"))) };
    await refused("PART_INVALID", upload.complete([]));
    await refused("PART_INVALID", upload.complete([{ number: 3, etag: last.etag }]));
    await refused("PART_INVALID", upload.complete([{ number: 1, etag: last.etag }]));
    await refused("PART_ORDER", upload.complete([last, small]));
    await refused("PART_TOO_SMALL", upload.complete([small, last]));
    await upload.abort();
    await refused("UPLOAD_NOT_FOUND", upload.putPart(3, bytesOf("x")));
    await refused("OBJECT_NOT_FOUND", store.head("upload-bad"));
  });

  test("completes only where the condition holds, or refuses to", async () => {
    const { store, refuses } = given();
    await store.put("upload-if", bytesOf("before"));
    const upload = await store.createUpload("upload-if");
    const parts = [{ number: 1, ...(await upload.putPart(1, bytesOf("after"))) }];
    if (refuses?.includes("completion")) {
      await refused("FOREIGN_CONDITIONS", upload.complete(parts, { ifNoneMatch: "*" }));
      await upload.abort();
      equal(String(await read(store, "upload-if")), "before");
      return;
    }
    await refused("PRECONDITION_FAILED", upload.complete(parts, { ifNoneMatch: "*" }));
    equal(String(await read(store, "upload-if")), "before");
    await upload.complete(parts, { ifMatch: hash("md5", "before", "hex") });
    equal(String(await read(store, "upload-if")), "after");
  });

  test("refuses a part of another length than announced", async () => {
    const { store } = given();
    const upload = await store.createUpload("upload-length");
    await refused("BODY_SIZE", upload.putPart(1, pieces("abc"), { sizeBytes: 4 }));
    await refused("BODY_SIZE", upload.putPart(1, pieces("abc"), { sizeBytes: 20 * mib }));
    await upload.abort();
  });
}

const bytesOf = (text: string) => Buffer.from(text);

async function refused(code: string, work: Promise<unknown>): Promise<void> {
  await rejects(work, (error: unknown) => {
    equal(error instanceof SkepError ? error.code : error, code);
    return true;
  });
}

function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

async function collect(body: Bytes): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of body) all.push(piece);
  return Buffer.concat(all);
}

async function read(
  store: ObjectStore,
  key: string,
  range?: { start?: number; end?: number },
): Promise<Buffer> {
  return collect((await store.get(key, range === undefined ? {} : { range })).body);
}

async function* pieces(...texts: string[]): Bytes {
  for (const text of texts) yield Buffer.from(text);
}

/** Bytes that follow from a number, in pieces of odd sizes. */
async function* generated(sizeBytes: number, seed: number): Bytes {
  const block = Buffer.alloc(70_001);
  for (let at = 0; at < block.length; at += 1) block[at] = (at * (seed + 1) + (at >> 8)) & 255;
  for (let left = sizeBytes; left > 0; left -= block.length) {
    yield Uint8Array.from(block.subarray(0, Math.min(left, block.length)));
  }
}

async function* hashed(body: Bytes, digest: { update(bytes: Uint8Array): unknown }): Bytes {
  for await (const bytes of body) {
    digest.update(bytes);
    yield bytes;
  }
}

async function listAll(store: ObjectStore, request: { prefix: string; delimiter?: string; limit?: number }) {
  const keys: string[] = [];
  const prefixes: string[] = [];
  let continuation: string | undefined;
  let pages = 0;
  do {
    const page = await store.list({ ...request, ...(continuation === undefined ? {} : { continuation }) });
    keys.push(...page.objects.map(({ key }) => key));
    prefixes.push(...page.prefixes);
    continuation = page.next;
    pages += 1;
  } while (continuation !== undefined);
  return { keys, prefixes, pages };
}
