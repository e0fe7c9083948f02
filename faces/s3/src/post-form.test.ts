import assert from "node:assert/strict";
import { createHash, createHmac } from "node:crypto";
import { connect } from "node:net";
import { buffer, text as textOf } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { send as sendTo, type TestResponse } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer();
  await sendTo(server, server.main, "PUT", "/pail");
  await sendTo(server, server.main, "PUT", "/open", { headers: { "x-amz-acl": "public-read-write" } });
});

after(() => server[Symbol.asyncDispose]());

type Fields = Record<string, string>;

/** A form in the order of its fields; the file comes last. */
function formOf(fields: Fields, file: string | Uint8Array<ArrayBuffer> = "bytes", name = "a.txt"): FormData {
  const form = new FormData();
  for (const [field, value] of Object.entries(fields)) form.append(field, value);
  form.append("file", new Blob([file]), name);
  return form;
}

const post = (bucket: string, body: FormData): Promise<TestResponse> =>
  sendTo(server, undefined, "POST", bucket, { body });

async function outcome(bucket: string, body: FormData): Promise<string> {
  const { status, code } = await post(bucket, body);
  return code === undefined ? String(status) : `${status} ${code}`;
}

const get = async (key: string) => {
  const { status, text, headers } = await sendTo(server, server.main, "GET", key);
  return { status, text, headers };
};

/** The fields, signed for `conditions`; each of them has to be covered by one. */
function signed(fields: Fields, conditions: unknown[], bucket = "pail"): Fields {
  const { accessKeyId, secret } = server.main;
  const date = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const scope = `${date.slice(0, 8)}/us-east-1/s3/aws4_request`;
  const added = {
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-credential": `${accessKeyId}/${scope}`,
    "x-amz-date": date,
  };
  const all = [
    { bucket },
    ...Object.entries(added).map(([name, value]) => ({ [name]: value })),
    ...conditions,
  ];
  const expiration = new Date(Date.now() + 60_000).toISOString();
  const policy = Buffer.from(JSON.stringify({ expiration, conditions: all })).toString("base64");
  const hmac = (key: string | Buffer, value: string) => createHmac("sha256", key).update(value).digest();
  const key = scope.split("/").reduce<string | Buffer>(hmac, `AWS4${secret}`);
  return { ...fields, ...added, policy, "x-amz-signature": hmac(key, policy).toString("hex") };
}

const underFoo = ["starts-with", "$key", "foo/"];

test("anyone may upload by a form into a bucket that all may write", async () => {
  assert.equal(await outcome("/open", formOf({ key: "a" })), "204");
  assert.equal((await get("/open/a")).text, "bytes");
  assert.equal(await outcome("/pail", formOf({ key: "a" })), "403 AccessDenied");
});

test("a signed form stores the file with all that its fields say", async () => {
  const fields = {
    key: `foo/\${filename}`,
    "Content-Type": "text/x-a",
    "x-amz-meta-who": "ann ü",
    acl: "public-read",
    tagging: "<Tagging><TagSet><Tag><Key>a</Key><Value>b c</Value></Tag></TagSet></Tagging>",
  };
  const conditions = [
    underFoo,
    ["starts-with", "$content-type", "text/"],
    { "x-amz-meta-who": "ann ü" },
    { acl: "public-read" },
    ["starts-with", "$tagging", ""],
  ];
  const file = new Uint8Array(300_000).map((_, i) => i);
  assert.equal(await outcome("/pail", formOf(signed(fields, conditions), file, "näme.bin")), "204");
  const response = await fetch(`${server.url}/pail/foo/n%C3%A4me.bin`);
  assert.deepEqual(new Uint8Array(await response.arrayBuffer()), file);
  assert.equal(response.headers.get("content-type"), "text/x-a");
  assert.equal(Buffer.from(response.headers.get("x-amz-meta-who") ?? "", "latin1").toString(), "ann ü");
  assert.equal(response.headers.get("etag"), `"${createHash("md5").update(file).digest("hex")}"`);
  const { text } = await get("/pail/foo/n%C3%A4me.bin?tagging");
  assert.match(text, /<Key>a<\/Key><Value>b c</);
});

test("a form that its signature, policy or digests do not fit stores nothing", async () => {
  const fields = { key: "foo/no" };
  const range = (least: number, most: number) => ["content-length-range", least, most];
  const good = signed(fields, [underFoo]);
  const table: [Fields, string][] = [
    [{ ...good, "x-amz-signature": "0".repeat(64) }, "403 SignatureDoesNotMatch"],
    [
      { ...good, "x-amz-credential": good["x-amz-credential"]!.replace(/^\w+/, "none") },
      "403 InvalidAccessKeyId",
    ],
    [{ ...good, key: "bar/no" }, "403 AccessDenied"],
    [{ ...good, acl: "public-read" }, "403 AccessDenied"],
    [signed(fields, [underFoo], "other"), "403 AccessDenied"],
    [signed(fields, [underFoo, range(0, 4)]), "400 EntityTooLarge"],
    [signed(fields, [underFoo, range(6, 9)]), "400 EntityTooSmall"],
    [{ ...good, "x-amz-checksum-sha256": "nonsense" }, "400 BadDigest"],
    [{ ...good, "x-amz-checksum-sha256": createHash("sha256").digest("base64") }, "400 BadDigest"],
    [signed({}, [underFoo]), "400 InvalidArgument"],
    [
      signed({ ...fields, "x-amz-meta-a": "x".repeat(20_001) }, [underFoo]),
      "400 MaxPostPreDataLengthExceededError",
    ],
  ];
  for (const [given, expected] of table) assert.equal(await outcome("/pail", formOf(given)), expected);
  assert.equal((await get("/pail/foo/no")).status, 404);
  const checksum = { "x-amz-checksum-sha256": createHash("sha256").update("bytes").digest("base64") };
  assert.equal(await outcome("/pail", formOf({ ...good, ...checksum })), "204");
  assert.equal((await get("/pail/foo/no")).text, "bytes");
});

test("where the browser is sent afterwards", async () => {
  const created = await post("/open", formOf({ key: "b c", success_action_status: "201" }));
  assert.equal(created.status, 201);
  assert.match(created.text, /<PostResponse><Location>.*\/open\/b%20c<\/Location><Bucket>open<.*<Key>b c</);
  assert.equal(await outcome("/open", formOf({ key: "b", success_action_status: "200" })), "200");
  assert.equal(await outcome("/open", formOf({ key: "b", success_action_status: "404" })), "204");
  const next = "http://example.org/done?x=1";
  const moved = await post("/open", formOf({ key: "b c", success_action_redirect: next }));
  assert.equal(moved.status, 303);
  const etag = createHash("md5").update("bytes").digest("hex");
  assert.equal(moved.headers.get("location"), `${next}&bucket=open&key=b%20c&etag=%22${etag}%22`);
  const script = formOf({ key: "b", success_action_redirect: "javascript:alert(1)" });
  assert.equal(await outcome("/open", script), "204");
});

test("a form that is none is refused", async () => {
  const none = new FormData();
  none.append("key", "a");
  assert.equal(await outcome("/open", none), "400 InvalidArgument");
  const again = new FormData();
  for (const key of ["a", "b"]) again.append("key", key);
  again.append("file", new Blob(["x"]));
  assert.equal(await outcome("/open", again), "400 InvalidArgument");
  const raw = (type: string, body: string) =>
    sendTo(server, undefined, "POST", "/open", { headers: { "content-type": type }, body });
  assert.equal((await raw("text/plain", "x")).code, "PreconditionFailed");
  assert.equal((await raw("multipart/form-data", "x")).code, "MalformedPOSTRequest");
  assert.equal((await raw("multipart/form-data; boundary=x", "no form")).code, "MalformedPOSTRequest");
});

test("a form that ends before its last boundary stores nothing", async () => {
  const part = (name: string, value: string) =>
    `--x\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}`;
  const body = `${part("key", "cut")}\r\n${part("file", "half of the")}`;
  const type = { "content-type": "multipart/form-data; boundary=x" };
  const { code } = await sendTo(server, undefined, "POST", "/open", { headers: type, body });
  assert.equal(code, "MalformedPOSTRequest");
  // The same with a connection that breaks in the file.
  const socket = connect(server.port, "127.0.0.1");
  socket.write(
    `POST /open HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\nContent-Length: 9999\r\n\r\n${body}`,
  );
  socket.end();
  assert.doesNotMatch(await textOf(socket), /HTTP\/1.1 2/);
  assert.equal((await get("/open/cut")).status, 404);
});

test("an upload larger than any buffer passes as a stream", async () => {
  const file = new Uint8Array(24 * 1024 ** 2).map((_, i) => i >> 8);
  assert.equal(await outcome("/open", formOf({ key: "large" }, file)), "204");
  const response = await fetch(`${server.url}/open/large`, { headers: {} });
  assert.equal(response.status, 403);
  const { body } = await store("large");
  assert.deepEqual(new Uint8Array(await buffer(body)), file);
});

const store = (key: string) => server.store.objects("open").get(key);
