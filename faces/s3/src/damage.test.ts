import assert from "node:assert/strict";
import { glob, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer({ log: { info() {}, warn() {}, error() {} } });
  await send(server, server.main, "PUT", "/damaged");
});

after(() => server[Symbol.asyncDispose]());

/** Changes one bit of the stored bytes, `at` bytes after where `mark` begins. */
async function flip(mark: string, at = 0): Promise<void> {
  const objects = join(server.directory, "objects");
  for await (const file of glob("{blobs,journal}/**", { cwd: objects, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const path = join(file.parentPath, file.name);
    const bytes = await readFile(path);
    const found = bytes.indexOf(mark);
    if (found < 0) continue;
    await using handle = await open(path, "r+");
    await handle.write(Buffer.of(bytes[found + at]! ^ 1), 0, 1, found + at);
    return;
  }
  throw new Error(`${mark} is nowhere in ${objects}`);
}

const put = async (key: string, body: string) =>
  assert.equal((await send(server, server.main, "PUT", `/damaged/${key}`, { body })).status, 200);

test("a damaged small object is an error with S3's code", async () => {
  await put("small", "the small object's bytes");
  await flip("the small object's bytes", 4);
  const answer = await send(server, server.main, "GET", "/damaged/small");
  assert.deepEqual([answer.status, answer.code], [500, "InternalError"]);
});

test("a large object damaged in its first block is an error with S3's code", async () => {
  await put("first", `first block${"x".repeat(4 * 1024 ** 2)}`);
  await flip("first block", 6);
  const answer = await send(server, server.main, "GET", "/damaged/first");
  assert.deepEqual([answer.status, answer.code], [500, "InternalError"]);
  const range = await send(server, server.main, "GET", "/damaged/first", { headers: { range: "bytes=5-9" } });
  assert.deepEqual([range.status, range.code], [500, "InternalError"]);
  assert.equal((await send(server, server.main, "HEAD", "/damaged/first")).status, 200);
});

test("a large object damaged further on breaks the connection", async () => {
  await put("later", `later block${"x".repeat(4 * 1024 ** 2)}`);
  await flip("later block", 4 * 1024 ** 2);
  await assert.rejects(send(server, server.main, "GET", "/damaged/later"), /terminated/);
  assert.equal(
    (await send(server, server.main, "GET", "/damaged/later", { headers: { range: "bytes=0-4" } })).text,
    "later",
  );
});
