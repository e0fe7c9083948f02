/** Objects as they are read, conditioned, copied and listed. */
import assert from "node:assert/strict";
import { request as plain } from "node:http";
import { after, before, test } from "node:test";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer({ domain: "s3.test" });
  assert.equal((await send(server, server.main, "PUT", "/pail")).status, 200);
});

after(() => server[Symbol.asyncDispose]());

type Headers = Record<string, string>;
const request = (method: string, target: string, headers: Headers = {}, body?: string | Uint8Array) =>
  send(server, server.main, method, `/pail${target}`, { headers, ...(body === undefined ? {} : { body }) });
const put = (key: string, body: string | Uint8Array, headers: Headers = {}) =>
  request("PUT", `/${key}`, headers, body);

test("ranges of every form", async () => {
  const large = Buffer.alloc(600_000, "0123456789");
  await put("range", "0123456789");
  await put("range-large", large);
  await put("range-empty", "");
  const table = [
    ["bytes=0-3", 206, "0123", "bytes 0-3/10"],
    ["bytes=4-", 206, "456789", "bytes 4-9/10"],
    ["bytes=-3", 206, "789", "bytes 7-9/10"],
    ["bytes=-30", 206, "0123456789", "bytes 0-9/10"],
    ["bytes=8-100", 206, "89", "bytes 8-9/10"],
    ["bytes=9-9", 206, "9", "bytes 9-9/10"],
    ["bytes=10-", 416, undefined, "bytes */10"],
    ["bytes=-0", 416, undefined, "bytes */10"],
    ["bytes=3-2", 200, "0123456789", null],
    ["bytes=0-1,4-5", 200, "0123456789", null],
    ["bytes=a-b", 200, "0123456789", null],
    ["bytes=-", 200, "0123456789", null],
    ["pages=1-2", 200, "0123456789", null],
  ] as const;
  for (const [range, status, text, contentRange] of table) {
    const got = await request("GET", "/range", { range });
    assert.deepEqual([got.status, got.headers.get("content-range")], [status, contentRange], range);
    if (text === undefined) assert.equal(got.code, "InvalidRange");
    else assert.equal(got.text, text, range);
    const head = await request("HEAD", "/range", { range });
    assert.equal(head.status, status, range);
    if (text !== undefined) assert.equal(head.headers.get("content-length"), String(text.length));
  }
  assert.equal((await request("GET", "/range-empty", { range: "bytes=0-" })).code, "InvalidRange");
  const middle = await request("GET", "/range-large", { range: "bytes=262140-262149" });
  assert.equal(middle.text, large.toString("latin1", 262140, 262150));
  const etag = middle.headers.get("etag")!;
  const ifRange = async (value: string) =>
    (await request("GET", "/range-large", { range: "bytes=0-1", "if-range": value })).status;
  assert.deepEqual([await ifRange(etag), await ifRange('"other"')], [206, 200]);
});

test("conditions on reading", async () => {
  const { headers } = await put("condition", "x", { "cache-control": "max-age=9" });
  const etag = headers.get("etag")!;
  const past = "Sat, 01 Jan 2000 00:00:00 GMT";
  const future = "Fri, 01 Jan 2100 00:00:00 GMT";
  const table: [Headers, number][] = [
    [{ "if-match": etag }, 200],
    [{ "if-match": '"no"' }, 412],
    [{ "if-match": `"no", ${etag}` }, 200],
    [{ "if-match": "*" }, 200],
    [{ "if-none-match": etag }, 304],
    [{ "if-none-match": '"no"' }, 200],
    [{ "if-none-match": "*" }, 304],
    [{ "if-modified-since": past }, 200],
    [{ "if-modified-since": future }, 304],
    [{ "if-unmodified-since": past }, 412],
    [{ "if-unmodified-since": future }, 200],
    [{ "if-match": etag, "if-unmodified-since": past }, 200],
    [{ "if-none-match": '"no"', "if-modified-since": future }, 200],
    [{ "if-modified-since": "yesterday" }, 200],
  ];
  for (const [condition, status] of table) {
    for (const method of ["GET", "HEAD"]) {
      const got = await request(method, "/condition", condition);
      assert.equal(got.status, status, JSON.stringify(condition));
      if (status !== 304) continue;
      const { headers, text } = got;
      assert.deepEqual([headers.get("etag"), headers.get("cache-control"), text], [etag, "max-age=9", ""]);
    }
  }
});

test("conditions on writing and deleting", async () => {
  assert.equal((await put("written", "1", { "if-none-match": "*" })).status, 200);
  assert.equal((await put("written", "2", { "if-none-match": "*" })).code, "PreconditionFailed");
  assert.equal((await put("absent", "2", { "if-match": '"a"' })).code, "NoSuchKey");
  const { headers } = await request("GET", "/written");
  const etag = headers.get("etag")!;
  assert.equal((await put("written", "3", { "if-match": '"no"' })).code, "PreconditionFailed");
  assert.equal((await put("written", "3", { "if-match": etag })).status, 200);
  assert.equal((await request("DELETE", "/written", { "if-match": etag })).code, "PreconditionFailed");
  assert.equal((await request("GET", "/written")).text, "3");
  const racing = Array.from({ length: 8 }, (_, at) => put("race", String(at), { "if-none-match": "*" }));
  const statuses = (await Promise.all(racing)).map((one) => one.status);
  assert.deepEqual(statuses.sort(), [200, ...new Array(7).fill(412)]);
});

test("headers and metadata come back as they went", async () => {
  const sent = {
    "content-type": "text/x-a; charset=utf-8",
    "cache-control": "max-age=5",
    "content-disposition": 'attachment; filename="a.txt"',
    "content-encoding": "aws-chunked,gzip",
    "content-language": "de",
    expires: "Thu, 01 Dec 2044 16:00:00 GMT",
    "x-amz-meta-one": "1 = <&>",
    "x-amz-meta-empty": "",
    "x-amz-storage-class": "STANDARD_IA",
  };
  await put("headers", "x", sent);
  for (const method of ["GET", "HEAD"]) {
    const { headers } = await request(method, "/headers");
    for (const [name, value] of Object.entries({ ...sent, "content-encoding": "gzip" })) {
      assert.equal(headers.get(name), value, name);
    }
    assert.equal(headers.get("etag"), '"9dd4e461268c8034f5c8564e155c67a6"');
    assert.equal(headers.get("accept-ranges"), "bytes");
    assert.equal(headers.get("x-amz-version-id"), null);
  }
  await put("plain", Buffer.from("x")); // of a string fetch would say a type
  assert.equal((await request("GET", "/plain")).headers.get("content-type"), "binary/octet-stream");
});

test("an answer's headers can be overridden by those who sign", async () => {
  await put("override", "x", { "x-amz-acl": "public-read" });
  const target = "/override?response-content-type=text%2Fhtml&response-cache-control=no-store";
  const { headers } = await request("GET", target);
  assert.deepEqual([headers.get("content-type"), headers.get("cache-control")], ["text/html", "no-store"]);
  assert.equal((await send(server, undefined, "GET", `/pail${target}`)).code, "InvalidRequest");
  assert.equal((await request("GET", "/override?response-content-type=a%0d%0ab")).code, "InvalidArgument");
});

test("copies keep or replace what an object carries", async () => {
  await put("source a+b", "copied", {
    "content-type": "text/a",
    "x-amz-meta-m": "1",
    "x-amz-tagging": "t=1",
  });
  const source = { "x-amz-copy-source": "/pail/source%20a%2Bb" };
  const copy = (key: string, headers: Headers = {}) => request("PUT", `/${key}`, { ...source, ...headers });
  assert.match(
    (await copy("kept")).text,
    /<CopyObjectResult[\s\S]*<ETag>&quot;3e0a5c0a1b6ee9c0?|<CopyObjectResult/,
  );
  const kept = await request("GET", "/kept");
  assert.deepEqual(
    [
      kept.text,
      ...["content-type", "x-amz-meta-m", "x-amz-tagging-count"].map((one) => kept.headers.get(one)),
    ],
    ["copied", "text/a", "1", "1"],
  );
  const replace = { "x-amz-metadata-directive": "REPLACE", "x-amz-tagging-directive": "REPLACE" };
  await copy("replaced", { ...replace, "content-type": "text/b", "x-amz-meta-n": "2" });
  const { headers } = await request("GET", "/replaced");
  assert.deepEqual(
    ["content-type", "x-amz-meta-m", "x-amz-meta-n", "x-amz-tagging-count"].map((one) => headers.get(one)),
    ["text/b", null, "2", null],
  );
  assert.equal((await copy("source%20a%2Bb")).code, "InvalidRequest");
  assert.equal((await copy("source%20a%2Bb", { ...replace, "x-amz-meta-n": "3" })).status, 200);
  assert.equal((await copy("no", { "x-amz-copy-source-if-match": '"no"' })).code, "PreconditionFailed");
  assert.equal((await copy("no", { "x-amz-metadata-directive": "MERGE" })).code, "InvalidArgument");
  assert.equal((await copy("no", { "x-amz-copy-source": "pail" })).code, "InvalidArgument");
  assert.equal((await copy("no", { "x-amz-copy-source": "pail/none" })).code, "NoSuchKey");
  assert.equal((await copy("no", { "x-amz-copy-source": "nowhere/none" })).code, "NoSuchBucket");
  assert.equal((await request("HEAD", "/no")).status, 404);
  await send(server, server.other, "PUT", "/others");
  await send(server, server.other, "PUT", "/others/secret", { body: "s" });
  assert.equal((await copy("no", { "x-amz-copy-source": "others/secret" })).code, "AccessDenied");
});

test("listings page through keys and prefixes, each once", async () => {
  await send(server, server.main, "PUT", "/lists");
  const keys = ["a", "b/1", "b/2", "b/3/x", "c", "d/1", "e", "\u0001", "é", "😀"];
  for (const key of keys)
    await server.store.put("lists", key, Buffer.from("x"), { owner: server.main.account.id });
  const inOrder = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  const rolled = ["\u0001", "a", "b/", "c", "d/", "e", "é", "😀"];
  const listed = (text: string) =>
    [...text.matchAll(/<Contents><Key>([^<]*)<|<CommonPrefixes><Prefix>([^<]*)</g)]
      .map(([, key, prefix]) => decodeURIComponent(key ?? prefix ?? ""))
      .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  for (const limit of [1, 2, 3, 1000]) {
    for (const [delimiter, expected] of [
      ["", inOrder],
      ["&delimiter=/", rolled],
    ] as const) {
      const common = `/lists?encoding-type=url&max-keys=${limit}${delimiter}`;
      const walk = async (first: string, next: (text: string, last: string) => string | undefined) => {
        const all: string[] = [];
        for (let target: string | undefined = first; target !== undefined; ) {
          const { text, status } = await send(server, server.main, "GET", target);
          assert.equal(status, 200);
          const page = listed(text);
          assert.ok(page.length <= limit);
          all.push(...page);
          const truncated = text.includes("<IsTruncated>true<");
          target = truncated ? common + next(text, page.at(-1) ?? "") : undefined;
        }
        return all;
      };
      const one = /<NextMarker>([^<]*)</;
      const two = /<NextContinuationToken>([^<]*)</;
      assert.deepEqual(
        await walk(common, (text, last) => `&marker=${one.exec(text)?.[1] ?? encodeURIComponent(last)}`),
        expected,
      );
      assert.deepEqual(
        await walk(
          `${common}&list-type=2`,
          (text) => `&list-type=2&continuation-token=${two.exec(text)?.[1]}`,
        ),
        expected,
      );
    }
  }
  const none = await send(server, server.main, "GET", "/lists?max-keys=0");
  assert.match(none.text, /<MaxKeys>0<[\s\S]*<IsTruncated>false</);
  const after = await send(server, server.main, "GET", "/lists?list-type=2&start-after=c&prefix=d");
  assert.deepEqual(listed(after.text), ["d/1"]);
});

test("a bucket is also a host under the domain", async () => {
  await put("hosted/key", "by host");
  await send(server, server.main, "PUT", "/pail/hosted/key", {
    body: "by host",
    headers: { "x-amz-acl": "public-read" },
  });
  const text = await new Promise<string>((resolve, reject) => {
    const headers = { host: "PAIL.s3.test:8443" };
    plain({ port: server.port, host: "127.0.0.1", path: "/hosted/key", headers }, (response) => {
      let all = "";
      response.setEncoding("utf8").on("data", (piece: string) => {
        all += piece;
      });
      response.on("end", () => resolve(all));
    })
      .on("error", reject)
      .end();
  });
  assert.equal(text, "by host");
});
