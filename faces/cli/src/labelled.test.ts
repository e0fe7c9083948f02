import assert from "node:assert/strict";
import { PassThrough, Readable, Writable } from "node:stream";
import { test } from "node:test";
import { printLabelled } from "./labelled.ts";

async function printed(...pieces: (string | Buffer)[]): Promise<string> {
  const target = new PassThrough({ highWaterMark: 1 });
  let text = "";
  target.setEncoding("utf8").on("data", (piece: string) => {
    text += piece;
  });
  await printLabelled(Readable.from(pieces.map((piece) => Buffer.from(piece))), "web-1 | ", target);
  return text;
}

test("each line has its label, however it came in pieces, and the last one its end", async () => {
  assert.equal(
    await printed("one\ntw", "o\n", "\nfour"),
    "web-1 | one\nweb-1 | two\nweb-1 | \nweb-1 | four\n",
  );
  assert.equal(await printed(), "");
  const [first, second] = [Buffer.from("ä\n").subarray(0, 1), Buffer.from("ä\n").subarray(1)];
  assert.equal(await printed(first, second), "web-1 | ä\n");
});

test("a line without end is not kept in memory", async () => {
  const lines = (await printed("a".repeat(150_000), "b\n")).split("\n");
  assert.deepEqual(
    lines.map((line) => line.length),
    [65_536 + 8, 65_536 + 8, 150_001 - 2 * 65_536 + 8, 0],
  );
});

test("what nobody reads any more is dropped", async () => {
  const closed = new Writable({ write: (_bytes, _encoding, done) => done() });
  closed.destroy();
  await printLabelled(Readable.from([Buffer.from("one\ntwo\n")]), "", closed);
});
