/** What clients may do to a connection, and what that may not do to us. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";
import { RawConnection, signedHead } from "./test-socket.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer({ patience: { idleMs: 400, minBytesPerSecond: 1000 } });
  assert.equal((await send(server, server.main, "PUT", "/raw")).status, 200);
});

after(() => server[Symbol.asyncDispose]());

const put = (key: string, length: number, headers: Record<string, string> = {}) =>
  signedHead(server, server.main, "PUT", `/raw/${key}`, {
    headers: { "content-length": String(length), ...headers },
  });
const statusOf = async (key: string) => (await send(server, server.main, "GET", `/raw/${key}`)).status;

test("a body that ends before its length is IncompleteBody and stores nothing", async () => {
  using connection = await RawConnection.open(server);
  connection.write(`${put("short", 10)}12345`);
  connection.socket.end();
  assert.match(await connection.closed(), /^HTTP\/1.1 400 [\s\S]*<Code>IncompleteBody</);
  assert.equal(await statusOf("short"), 404);
});

test("a body that stops coming is RequestTimeout and stores nothing", async () => {
  using connection = await RawConnection.open(server);
  connection.write(`${put("stalled", 10)}12345`);
  assert.match(await connection.closed(), /^HTTP\/1.1 400 [\s\S]*<Code>RequestTimeout</);
  assert.equal(await statusOf("stalled"), 404);
});

test("a body that comes byte by byte, below the least rate, is RequestTimeout", async () => {
  using connection = await RawConnection.open(server);
  connection.write(put("slow", 1_000_000));
  const timer = setInterval(() => connection.write("x"), 20);
  try {
    assert.match(await connection.closed(), /^HTTP\/1.1 400 [\s\S]*<Code>RequestTimeout</);
  } finally {
    clearInterval(timer);
  }
  assert.equal(await statusOf("slow"), 404);
});

test("bytes after the declared length are no part of the object", async () => {
  using connection = await RawConnection.open(server);
  connection.write(`${put("long", 5)}12345`);
  await connection.until(/^HTTP\/1.1 200 /);
  connection.write("678");
  assert.match(await connection.closed(), /HTTP\/1.1 400 [\s\S]*<Code>BadRequest</);
  assert.equal((await send(server, server.main, "GET", "/raw/long")).text, "12345");
});

test("a client that goes away in mid-body leaves the old object whole", async () => {
  await send(server, server.main, "PUT", "/raw/kept", { body: "old" });
  const connection = await RawConnection.open(server);
  connection.write(put("kept", 1_000_000));
  connection.write(Buffer.alloc(300_000));
  await until(
    () => server.records.length,
    () => connection.socket.destroy(),
  );
  assert.equal((await send(server, server.main, "GET", "/raw/kept")).text, "old");
});

test("100 Continue is said to those who may send a body, and to them alone", async () => {
  {
    using connection = await RawConnection.open(server);
    connection.write(put("asked", 5, { expect: "100-continue" }));
    await connection.until(/^HTTP\/1.1 100 Continue\r\n\r\n$/);
    connection.write("12345");
    await connection.until(/HTTP\/1.1 200 OK/);
  }
  using stranger = await RawConnection.open(server);
  const head = signedHead(server, server.other, "PUT", "/raw/asked", {
    headers: { "content-length": "5", expect: "100-continue" },
  });
  stranger.write(head);
  assert.match(await stranger.closed(), /^HTTP\/1.1 403 [\s\S]*<Code>AccessDenied</);
});

test("a request that is refused before its body is read gets its answer, and small bodies keep the connection", async () => {
  using connection = await RawConnection.open(server);
  const small = "x".repeat(50_000);
  connection.write(
    signedHead(server, server.other, "PUT", "/raw/no", { headers: { "content-length": "50000" } }),
  );
  connection.write(small);
  await connection.until(/^HTTP\/1.1 403 [\s\S]*<\/Error>/);
  connection.received = "";
  connection.write(`${put("yes", 2)}ok`);
  await connection.until(/^HTTP\/1.1 200 /);
  using large = await RawConnection.open(server);
  large.write(
    signedHead(server, server.other, "PUT", "/raw/no", { headers: { "content-length": "900000000" } }),
  );
  large.write(Buffer.alloc(200_000));
  const answer = await large.closed();
  assert.match(answer, /^HTTP\/1.1 403 [\s\S]*connection: close[\s\S]*<\/Error>/i);
});

test("a client that stops reading is cut off", async () => {
  await send(server, server.main, "PUT", "/raw/large", { body: Buffer.alloc(24 * 1024 ** 2) });
  const before = server.records.length;
  using connection = await RawConnection.open(server, { paused: true });
  connection.write(signedHead(server, server.main, "GET", "/raw/large"));
  await until(() => server.records.length - before);
  const record = server.records.at(-1)!;
  assert.deepEqual([record.operation, record.error], ["GetObject", "RequestTimeout"]);
  assert.ok(record.sentBytes < 24 * 1024 ** 2);
});

test("what is no HTTP, or has too much of a header, is refused in XML", async () => {
  for (const [text, code] of [
    ["hello\r\n\r\n", "BadRequest"],
    [`GET / HTTP/1.1\r\nhost: a\r\nx-a: ${"a".repeat(100_000)}\r\n\r\n`, "RequestHeaderSectionTooLarge"],
    ["PUT /raw/a HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", "BadRequest"],
    ["PUT /raw/a HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", "BadRequest"],
    [
      "PUT /raw/a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
      "BadRequest",
    ],
  ] as const) {
    using connection = await RawConnection.open(server);
    connection.write(text);
    assert.match(await connection.closed(), new RegExp(`^HTTP/1.1 400 [\\s\\S]*<Code>${code}<`));
  }
});

test("requests in one connection are answered in their order", async () => {
  await send(server, server.main, "PUT", "/raw/one", { body: "1" });
  await send(server, server.main, "PUT", "/raw/two", { body: "2" });
  using connection = await RawConnection.open(server);
  connection.write(
    ["one", "none", "two"].map((key) => signedHead(server, server.main, "GET", `/raw/${key}`)).join(""),
  );
  await connection.until(
    /HTTP\/1.1 200 [\s\S]*\r\n\r\n1HTTP\/1.1 404 [\s\S]*HTTP\/1.1 200 [\s\S]*\r\n\r\n2$/,
  );
});

test("draining waits for what is under way and closes its connections", async () => {
  await using own = await startTestServer();
  await send(own, own.main, "PUT", "/raw");
  using connection = await RawConnection.open(own);
  connection.write(
    signedHead(own, own.main, "PUT", "/raw/last", {
      headers: { "content-length": "4", expect: "100-continue" },
    }),
  );
  await connection.until(/100 Continue/);
  let drained = false;
  const draining = own.face.drain().then(() => {
    drained = true;
  });
  assert.equal(drained, false);
  connection.write("1234");
  await draining;
  assert.match(await connection.closed(), /HTTP\/1.1 200 [\s\S]*connection: close/i);
});

/** Waits until `count` has grown; `act` is what should make it. */
async function until(count: () => number, act: () => void = () => {}): Promise<void> {
  const before = count();
  act();
  while (count() === before) await new Promise((resolve) => setTimeout(resolve, 10));
}
