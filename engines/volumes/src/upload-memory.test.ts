import assert from "node:assert/strict";
import { test } from "node:test";
import { UploadMemory } from "./upload-memory.ts";

const size = 3 * 1024 * 1024;

/** What two uploads lend, one after the other, while a third one is under way. */
async function lentTwice(first: (memory: Buffer) => Promise<void>): Promise<[Buffer, Buffer]> {
  const uploads = new UploadMemory();
  const other = Promise.withResolvers<void>();
  const third = uploads.use(async () => other.promise);
  let one: Buffer | undefined;
  const upload = uploads.use(async (lend) => {
    one = lend(size);
    await first(one);
  });
  await upload.catch(() => undefined);
  const again = await uploads.use(async (lend) => lend(size - 10));
  other.resolve();
  await third;
  assert.equal(again.length, size - 10);
  return [one as Buffer, again];
}

test("uploads use each other's memory while there are any", async () => {
  const [one, again] = await lentTwice(async () => {});
  assert.equal(again.buffer, one.buffer);
});

test("memory of an upload that has failed is not used again: its request may still be at it", async () => {
  const [one, again] = await lentTwice(() => Promise.reject(new Error("the store is gone")));
  assert.notEqual(again.buffer, one.buffer);
});

test("two uploads at the same time have memory of their own, and none is kept after the last", async () => {
  const uploads = new UploadMemory();
  const [one, other] = await Promise.all([
    uploads.use(async (lend) => lend(size)),
    uploads.use(async (lend) => lend(size)),
  ]);
  assert.notEqual(one.buffer, other.buffer);
  const later = await uploads.use(async (lend) => lend(size));
  assert.ok(![one.buffer, other.buffer].includes(later.buffer));
});
