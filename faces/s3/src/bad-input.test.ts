/** Requests that are not as they should be: each gets S3's code, and nothing is changed by it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, before, test } from "node:test";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { RawConnection, signedHead } from "./test-socket.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer();
  assert.equal((await send(server, server.main, "PUT", "/bad")).status, 200);
});

after(() => server[Symbol.asyncDispose]());

type Options = Parameters<typeof send>[4];

async function outcome(method: string, target: string, options?: Options): Promise<string> {
  const { status, code } = await send(server, server.main, method, target, options);
  return code === undefined ? String(status) : `${status} ${code}`;
}

/** Of a request whose target or headers `fetch` would not send as they are. */
async function rawOutcome(method: string, target: string, headers: Record<string, string> = {}, body = "") {
  using connection = await RawConnection.open(server);
  const length = { "content-length": String(body.length) };
  connection.write(
    signedHead(server, server.main, method, target, { headers: { ...length, ...headers } }) + body,
  );
  const [, status] = await connection.until(/^HTTP\/1.1 (\d+) [\s\S]*\r\n\r\n/);
  const length2 = Number(/content-length: (\d+)/.exec(connection.received)?.[1]);
  await connection.until(new RegExp(`\r\n\r\n[\\s\\S]{${length2}}`));
  const code = /<Code>(\w+)</.exec(connection.received)?.[1];
  return code === undefined ? status : `${status} ${code}`;
}

test("keys are what they say, up to 1,024 bytes", async () => {
  const keys = [
    "../../etc/passwd",
    "a/../b",
    "a//b",
    "//",
    "/lead",
    "nul\0",
    "line\nfeed\r",
    "☃ & <x>",
    "a+b c",
    ".",
  ];
  keys.push("k".repeat(1024), "☃".repeat(341));
  for (const key of keys) {
    const target = `/bad/${encodeURIComponent(key).replaceAll(".", "%2E")}`;
    assert.equal(await rawOutcome("PUT", target, {}, "x"), "200", key);
  }
  for (const key of ["k".repeat(1025), "☃".repeat(342)]) {
    assert.equal(await rawOutcome("PUT", `/bad/${encodeURIComponent(key)}`, {}, "x"), "400 KeyTooLongError");
  }
  const { objects } = await server.store.list("bad");
  assert.deepEqual(objects.map((one) => one.key).sort(), keys.sort());
  for (const key of keys) await server.store.delete("bad", key, { owner: server.main.account.id });
});

test("targets that are no UTF-8 are no URI", async () => {
  for (const target of ["/bad/%ff", "/bad/%zz", "/bad/%", "/bad?prefix=%c0%80", "/%e2%82/a"]) {
    assert.equal(await rawOutcome("GET", target), "400 InvalidURI", target);
  }
});

test("bucket names are S3's", async () => {
  const wrong = [
    "ab",
    "a".repeat(64),
    "Upper",
    "a_b",
    "-ab",
    "ab-",
    "a..b",
    "a.-b",
    "192.168.0.1",
    "xn--a",
    "a b",
    "a-s3alias",
  ];
  for (const name of wrong) {
    assert.equal(await outcome("PUT", `/${encodeURIComponent(name)}`), "400 InvalidBucketName", name);
  }
  for (const name of ["abc", "a.b.c", "0-0", "a".repeat(63)])
    assert.equal(await outcome("PUT", `/${name}`), "200");
  assert.equal(await outcome("GET", "/nobody-has-this"), "404 NoSuchBucket");
  assert.equal(await outcome("GET", "/Not_a_Name"), "400 InvalidBucketName");
});

test("a sub-resource never becomes another operation", async () => {
  await send(server, server.main, "PUT", "/bad/kept", { body: "kept" });
  const table = [
    ["PUT", "/bad/kept?torrent", "405 MethodNotAllowed"],
    ["PUT", "/bad/kept?uploads", "405 MethodNotAllowed"],
    ["PUT", "/bad/kept?partNumber=1", "405 MethodNotAllowed"],
    ["PUT", "/bad/kept?acl&tagging", "501 NotImplemented"],
    ["PUT", "/bad/kept?something-new", "501 NotImplemented"],
    ["DELETE", "/bad/kept?acl", "405 MethodNotAllowed"],
    ["DELETE", "/bad/kept?uploads", "405 MethodNotAllowed"],
    ["POST", "/bad/kept", "405 MethodNotAllowed"],
    ["PATCH", "/bad/kept", "405 MethodNotAllowed"],
    ["GET", "/bad/kept?torrent", "501 NotImplemented"],
    ["GET", "/bad/absent?torrent", "404 NoSuchKey"],
    ["POST", "/bad/kept?select&select-type=2", "501 NotImplemented"],
    ["PUT", "/bad?analytics&id=1", "501 NotImplemented"],
    ["DELETE", "/bad?location", "405 MethodNotAllowed"],
    ["DELETE", "/", "405 MethodNotAllowed"],
  ] as const;
  for (const [method, target, expected] of table) {
    const options = method === "PUT" || method === "POST" ? { body: "x" } : {};
    assert.equal(await outcome(method, target, options), expected, `${method} ${target}`);
  }
  assert.equal((await send(server, server.main, "GET", "/bad/kept")).text, "kept");
});

test("what would change how an object is kept is not passed over", async () => {
  const table = [
    [{ "x-amz-server-side-encryption": "AES256" }, "501 NotImplemented"],
    [{ "x-amz-server-side-encryption-customer-algorithm": "AES256" }, "501 NotImplemented"],
    [{ "x-amz-object-lock-mode": "GOVERNANCE" }, "501 NotImplemented"],
    [{ "x-amz-storage-class": "GLACIER" }, "400 InvalidStorageClass"],
    [{ "x-amz-meta-a": "x".repeat(2048) }, "400 MetadataTooLarge"],
  ] as const;
  for (const [headers, expected] of table) {
    assert.equal(await outcome("PUT", "/bad/new", { headers, body: "x" }), expected);
  }
  assert.equal(await outcome("HEAD", "/bad/new"), "404");
});

test("a body must be what each of its digests says", async () => {
  const md5 = (text: string) => createHash("md5").update(text).digest("base64");
  const sha256 = (text: string) => createHash("sha256").update(text).digest("base64");
  const table: [Record<string, string>, string][] = [
    [{ "content-md5": md5("hello") }, "200"],
    [{ "content-md5": md5("other") }, "400 BadDigest"],
    [{ "content-md5": "short" }, "400 InvalidDigest"],
    [{ "content-md5": "" }, "400 InvalidDigest"],
    [{ "x-amz-checksum-sha256": sha256("hello") }, "200"],
    [{ "x-amz-checksum-sha256": sha256("other") }, "400 BadDigest"],
    [{ "x-amz-checksum-crc32": "NhCmhg==" }, "200"],
    [{ "x-amz-checksum-crc32": "NhCmhw==" }, "400 BadDigest"],
    [{ "x-amz-checksum-crc32": "NhCmhg==", "x-amz-checksum-sha256": sha256("hello") }, "400 InvalidRequest"],
    [{ "x-amz-sdk-checksum-algorithm": "CRC32" }, "400 InvalidRequest"],
    [{ "x-amz-sdk-checksum-algorithm": "MD4", "x-amz-checksum-crc32": "NhCmhg==" }, "400 InvalidRequest"],
  ];
  for (const [headers, expected] of table) {
    const body = expected === "200" ? "hello" : Buffer.from("hello");
    assert.equal(await outcome("PUT", "/bad/digest", { headers, body }), expected, JSON.stringify(headers));
  }
  using connection = await RawConnection.open(server);
  connection.write(
    `${signedHead(server, server.main, "PUT", "/bad/digest", { headers: { "content-length": "5" }, payload: "hello" })}HELLO`,
  );
  await connection.until(/^HTTP\/1.1 400 [\s\S]*<Code>XAmzContentSHA256Mismatch</);
  assert.equal((await send(server, server.main, "GET", "/bad/digest")).text, "hello");
});

test("lengths are demanded and bounded", async () => {
  using connection = await RawConnection.open(server);
  connection.write(signedHead(server, server.main, "PUT", "/bad/none"));
  await connection.until(/^HTTP\/1.1 411 [\s\S]*<Code>MissingContentLength</);
  using large = await RawConnection.open(server);
  const length = String(5 * 1024 ** 3 + 1);
  large.write(signedHead(server, server.main, "PUT", "/bad/none", { headers: { "content-length": length } }));
  await large.until(/^HTTP\/1.1 400 [\s\S]*<Code>EntityTooLarge<[\s\S]*<\/Error>/);
});

test("XML that is none, is too much or plays tricks is MalformedXML", async () => {
  const many = `<Delete>${"<Object><Key>a</Key></Object>".repeat(1001)}</Delete>`;
  const bomb = `<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><Delete><Object><Key>&b;</Key></Object></Delete>`;
  const file = `<!DOCTYPE d [<!ENTITY f SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&f;</Key></Object></Delete>`;
  const deep = `<Delete>${"<a>".repeat(5000)}${"</a>".repeat(5000)}</Delete>`;
  const texts = [
    "{}",
    "<Delete>",
    "<Delete></Object></Delete>",
    "<Other/>",
    "<Delete/>",
    many,
    bomb,
    file,
    deep,
    "<a/><b/>",
  ];
  for (const body of texts) {
    assert.equal(await outcome("POST", "/bad?delete", { body }), "400 MalformedXML", body.slice(0, 60));
  }
  const large = `<Delete>${" ".repeat(3_000_000)}</Delete>`;
  assert.equal(await outcome("POST", "/bad?delete", { body: large }), "400 MaxMessageLengthExceeded");
  assert.equal(
    await outcome("POST", "/bad?delete", { body: Buffer.from([60, 0xff, 62]) }),
    "400 MalformedXML",
  );
});

test("numbers in queries are numbers within their bounds", async () => {
  for (const value of ["-1", "x", "1.5", "99999999999", "0x10"]) {
    for (const parameter of ["max-keys", "versions&max-keys", "uploads&max-uploads"]) {
      assert.equal(await outcome("GET", `/bad?${parameter}=${value}`), "400 InvalidArgument", value);
    }
  }
  assert.equal(await outcome("GET", "/bad?encoding-type=base64"), "400 InvalidArgument");
  assert.equal(await outcome("GET", "/bad?list-type=2&continuation-token=nonsense"), "400 InvalidArgument");
  assert.equal(await outcome("GET", "/bad?list-type=3"), "400 InvalidArgument");
  assert.equal(await outcome("GET", "/bad/kept?versionId="), "400 InvalidArgument");
  assert.equal(await outcome("GET", "/bad/kept?versionId=nonsense"), "404 NoSuchVersion");
});

test("uploads refuse parts that are out of bounds, of order, unknown or too small", async () => {
  const { text } = await send(server, server.main, "POST", "/bad/parts?uploads");
  const id = /<UploadId>(.*)<\/UploadId>/.exec(text)![1]!;
  const part = (number: number | string) => `/bad/parts?partNumber=${number}&uploadId=${id}`;
  for (const number of [0, 10_001, -1, "x", ""]) {
    assert.equal(await outcome("PUT", part(number), { body: "x" }), "400 InvalidArgument", String(number));
  }
  assert.equal(
    await outcome("PUT", "/bad/parts?partNumber=1&uploadId=none", { body: "x" }),
    "404 NoSuchUpload",
  );
  assert.equal(
    await outcome("PUT", `/bad/else?partNumber=1&uploadId=${id}`, { body: "x" }),
    "404 NoSuchUpload",
  );
  const etags: string[] = [];
  for (const number of [1, 2]) {
    const { headers } = await send(server, server.main, "PUT", part(number), { body: "small" });
    etags.push(headers.get("etag")!);
  }
  const complete = (...parts: [number, string | undefined][]) =>
    outcome("POST", `/bad/parts?uploadId=${id}`, {
      body: `<CompleteMultipartUpload>${parts
        .map(([number, etag]) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`)
        .join("")}</CompleteMultipartUpload>`,
    });
  assert.equal(await complete(), "400 MalformedXML");
  assert.equal(await complete([2, etags[1]], [1, etags[0]]), "400 InvalidPartOrder");
  assert.equal(await complete([1, etags[0]], [3, etags[1]]), "400 InvalidPart");
  assert.equal(await complete([1, '"00000000000000000000000000000000"']), "400 InvalidPart");
  assert.equal(await complete([1, etags[0]], [2, etags[1]]), "400 EntityTooSmall");
  assert.equal(await complete([10_001, etags[0]]), "400 InvalidArgument");
  const all = Array.from({ length: 10_001 }, (_, at): [number, string] => [(at % 10_000) + 1, etags[0]!]);
  assert.equal(await complete(...all), "400 InvalidArgument");
  assert.equal(await outcome("DELETE", `/bad/parts?uploadId=${id}`), "204");
  assert.equal(await complete([1, etags[0]]), "404 NoSuchUpload");
  assert.equal(await outcome("GET", "/bad/parts"), "404 NoSuchKey");
});

test("errors say what they are about, and HEAD says them by status alone", async () => {
  const { text, headers } = await send(server, server.main, "GET", "/bad/no%26thing");
  assert.match(text, /<Code>NoSuchKey<[\s\S]*<Key>no&amp;thing<[\s\S]*<Resource>\/bad\/no%26thing</);
  assert.ok(text.includes(`<RequestId>${headers.get("x-amz-request-id")}</RequestId>`));
  const head = await send(server, server.main, "HEAD", "/bad/nothing");
  assert.deepEqual([head.status, head.text], [404, ""]);
});

test("a form cannot store what no header can give back", async () => {
  await send(server, server.main, "PUT", "/bad-form", { headers: { "x-amz-acl": "public-read-write" } });
  const post = async (name: string, value: string) => {
    const form = new FormData();
    form.set("key", "form");
    form.set(name, value);
    form.set("file", new Blob(["x"]));
    return (await send(server, undefined, "POST", "/bad-form", { body: form })).code;
  };
  assert.equal(await post("Content-Type", "a\r\nset-cookie: b"), "InvalidArgument");
  assert.equal(await post("x-amz-meta-a b", "c"), "InvalidArgument");
  assert.equal(await post("x-amz-meta-a", "c\0"), "InvalidArgument");
  assert.equal(await post("x-amz-meta-a", "☃"), undefined);
});

test("names that mean something to JavaScript are names like any other", async () => {
  const headers = {
    "x-amz-meta-__proto__": "a",
    "x-amz-meta-constructor": "b",
    "x-amz-tagging": "__proto__=c",
  };
  assert.equal(
    (await send(server, server.main, "PUT", "/bad/__proto__", { headers, body: "x" })).status,
    200,
  );
  const got = await send(server, server.main, "GET", "/bad/__proto__");
  assert.equal(got.headers.get("x-amz-meta-__proto__"), "a");
  assert.equal(got.headers.get("x-amz-meta-constructor"), "b");
  const tags = await send(server, server.main, "GET", "/bad/__proto__?tagging");
  assert.match(tags.text, /<Key>__proto__<\/Key><Value>c</);
});

test("a signature is not in the record of its request, however its name is written", async () => {
  for (const name of ["X-Amz-Signature", "X-Amz-%53ignature", "%58-amz-signature", "Signature"]) {
    await send(server, undefined, "GET", `/bad/nothing?a=b&${name}=0123456789abcdef&c=d`);
    const { uri } = server.records.at(-1)!;
    assert.equal(uri, `/bad/nothing?a=b&${name}=…&c=d`);
  }
});

test("two lengths, or a length and chunks, are no request", async () => {
  for (const lengths of [
    "content-length: 5\r\ntransfer-encoding: chunked",
    "content-length: 5\r\ncontent-length: 6",
  ]) {
    using connection = await RawConnection.open(server);
    connection.write(
      `PUT /bad/smuggled HTTP/1.1\r\nhost: x\r\n${lengths}\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n`,
    );
    const answer = await connection.closed();
    assert.match(answer, /^HTTP\/1.1 400 /);
    assert.equal(answer.match(/HTTP\/1.1/g)?.length, 1);
  }
});
