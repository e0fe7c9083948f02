import assert from "node:assert/strict";
import {
  appendFile,
  mkdtemp,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { formatIndex, offsetSince, parseIndex } from "./console-index.ts";
import { ConsoleLog, type ConsoleLogOptions, PlainLog } from "./console-log.ts";

let directory: string;
let path: string;
let clock = 1_000_000;
const now = () => clock;

beforeEach(async () => {
  directory = await mkdtemp("/tmp/skep-log-");
  path = join(directory, "console.log");
  clock = 1_000_000;
});
afterEach(() => rm(directory, { recursive: true, force: true }));

async function text(pieces: AsyncIterable<Buffer>): Promise<string> {
  const all: Buffer[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all).toString();
}

async function opened(file: string, options: ConsoleLogOptions = {}): Promise<ConsoleLog> {
  const log = new ConsoleLog(file, options);
  await log.load();
  return log;
}

/** Prints as QEMU does: first to the file, then to skepd. */
async function print(log: ConsoleLog, output: string, at = clock): Promise<void> {
  clock = at;
  await appendFile(path, output);
  log.noteOutput(Buffer.byteLength(output));
}

describe("ConsoleLog", () => {
  it("reads nothing from a log that is not there", async () => {
    await using log = await opened(path);
    assert.equal(await text(log.read()), "");
    assert.equal(await text(log.read({ tailLines: 5, sinceMs: 0 })), "");
  });

  it("reads all, or the last lines", async () => {
    await using log = await opened(path);
    const lines = Array.from({ length: 30_000 }, (_, i) => `line ${i}\n`);
    await writeFile(path, lines.join(""));
    assert.equal(await text(log.read()), lines.join(""));
    for (const count of [0, 1, 2, 20_000, 30_000, 40_000]) {
      assert.equal(
        await text(log.read({ tailLines: count })),
        count === 0 ? "" : lines.slice(-count).join(""),
      );
    }
    await appendFile(path, "login: ");
    assert.equal(await text(log.read({ tailLines: 1 })), "login: ");
    assert.equal((await log.tail(7)).toString(), "login: ");
  });

  it("reads what was printed since a time, also after it was opened anew", async () => {
    {
      await using log = await opened(path, { now });
      await print(log, "one\n", 1_000_000);
      await print(log, "two\n", 1_010_000);
      await print(log, "more two\n", 1_010_500);
      await print(log, "three\n", 1_020_000);
      assert.equal(await text(log.read({ sinceMs: 1_005_000 })), "two\nmore two\nthree\n");
    }
    await utimes(path, 1020, 1020);
    await using log = await opened(path, { now });
    assert.equal(await text(log.read({ sinceMs: 1_000_000 })), "one\ntwo\nmore two\nthree\n");
    assert.equal(await text(log.read({ sinceMs: 1_015_000 })), "three\n");
    assert.equal(await text(log.read({ sinceMs: 1_015_000, tailLines: 2 })), "three\n");
    assert.equal(await text(log.read({ sinceMs: 1_030_000 })), "");
  });

  it("finds by time what was printed while skepd was dead", async () => {
    {
      await using log = await opened(path, { now });
      await print(log, "before\n", 1_000_000);
    }
    await appendFile(path, "meanwhile\n");
    await utimes(path, 1500, 1500);
    await using log = await opened(path, { now });
    await print(log, "after\n", 2_000_000);
    assert.match(await text(log.read({ sinceMs: 1_400_000 })), /meanwhile\nafter/);
    assert.equal(await text(log.read({ sinceMs: 1_600_000 })), "after\n");
  });

  it("keeps to its size while the writer keeps its descriptor, and loses nothing that fits", async () => {
    await using log = await opened(path, { now, maxBytes: 10_000 });
    let all = "";
    for (let i = 0; i < 600; i += 1) {
      const line = `line ${i} ${"x".repeat(80)}\n`;
      all += line;
      await print(log, line, 1_000_000 + i * 1000);
    }
    await log[Symbol.asyncDispose]();
    assert.ok((await stat(path)).size <= 11_000);
    assert.ok((await stat(`${path}.1`)).size <= 11_000);
    const kept = await text(log.read());
    assert.ok(kept.length >= 10_000);
    assert.ok(all.endsWith(kept));
    assert.match(
      await text(log.read({ sinceMs: 1_000_000 + 590_000 })),
      /^line 590 .*\n(?:line .*\n)*line 599 x*\n$/,
    );
    assert.ok((await readFile(`${path}.index`)).length < 10_000);
    await using again = await opened(path, { now, maxBytes: 10_000 });
    assert.equal(await text(again.read()), kept);
    assert.equal(await text(again.read({ tailLines: 100 })), all.split("\n").slice(-101).join("\n"));
  });

  it("cuts a log that grew far beyond its size while skepd was dead", async () => {
    const lines = Array.from({ length: 10_000 }, (_, i) => `line ${i}\n`).join("");
    await writeFile(path, lines);
    const log = await opened(path, { maxBytes: 10_000 });
    await log[Symbol.asyncDispose]();
    assert.equal((await stat(path)).size, 0);
    assert.equal(await text(log.read()), lines.slice(-10_000));
  });

  it("follows across a cut without loss or repetition", async () => {
    await using log = await opened(path, { now, maxBytes: 5000 });
    const stop = new AbortController();
    let followed = "";
    let all = "";
    const following = (async () => {
      for await (const piece of log.follow({ signal: stop.signal })) {
        followed += piece;
        if (followed.endsWith("end\n")) stop.abort();
      }
    })();
    for (let i = 0; i < 200; i += 1) {
      const line = `line ${i} ${"y".repeat(60)}\n`;
      all += line;
      await print(log, line, clock + 1000);
      // The reader must keep up: what two cuts have removed cannot be followed.
      while (all.length - followed.length > 4000) await new Promise((resolve) => setTimeout(resolve, 10));
    }
    all += "end\n";
    await print(log, "end\n");
    await following;
    assert.equal(followed, all);
  });

  it("is not hurt by a damaged index", async () => {
    for (const damage of [
      "",
      "garbage",
      "skep-console-index 1\nbase x\n",
      "skep-console-index 9\nbase 0\n",
      "\0".repeat(99),
    ]) {
      await writeFile(path, "hello\n");
      await writeFile(`${path}.index`, damage);
      await using log = await opened(path, { now });
      await print(log, "there\n", Date.now() + 5000);
      assert.equal(await text(log.read()), "hello\nthere\n");
      assert.equal(await text(log.read({ sinceMs: clock })), "there\n");
      assert.equal(await text(log.read({ sinceMs: 0 })), "hello\nthere\n");
    }
  });

  it("goes on after its files were removed or emptied by hand", async () => {
    await using log = await opened(path, { now });
    await print(log, "one\n");
    await log[Symbol.asyncDispose]();
    await rm(`${path}.index`);
    await print(log, "two\n", clock + 5000);
    assert.equal(await text(log.read({ sinceMs: clock })), "two\n");
    await truncate(path, 0);
    await print(log, "three\n", clock + 5000);
    assert.equal(await text(log.read()), "three\n");
    await rm(directory, { recursive: true });
    log.noteOutput(3);
    assert.equal(await text(log.read()), "");
  });

  it("follows no link that QEMU could have put in the place of its log", async () => {
    const secret = join(directory, "secret");
    await writeFile(secret, "x".repeat(100));
    await symlink(secret, path);
    await using log = await opened(path, { maxBytes: 10 });
    log.noteOutput(1);
    await log[Symbol.asyncDispose]();
    assert.equal((await stat(secret)).size, 100);
    await assert.rejects(text(log.read()), { code: "ELOOP" });
  });
});

describe("console index", () => {
  it("reads back what it wrote", () => {
    const index = {
      base: 7,
      entries: [
        { offset: 7, timeMs: 1 },
        { offset: 9, timeMs: 5000 },
      ],
    };
    assert.deepEqual(parseIndex(formatIndex(index)), { index, intact: true });
    assert.equal(offsetSince(index, 3000), 9);
  });

  it("keeps what is sound of a cut-off or muddled file", () => {
    const cut = parseIndex("skep-console-index 1\nbase 0\n5 100\n9 20");
    assert.deepEqual(cut, { index: { base: 0, entries: [{ offset: 5, timeMs: 100 }] }, intact: false });
    const muddled = parseIndex("skep-console-index 1\nbase 0\n5 100\n%%\n3 200\n-1 5\n9 300\n");
    assert.equal(muddled?.intact, false);
    assert.deepEqual(
      muddled?.index.entries.map((entry) => entry.offset),
      [5, 9],
    );
  });
});

describe("PlainLog", () => {
  it("reads, tails and follows, also when the file is begun anew", async () => {
    const log = new PlainLog(path);
    assert.equal(await text(log.read()), "");
    await writeFile(path, "a\nb\nc\n");
    assert.equal(await text(log.read({ tailLines: 2 })), "b\nc\n");
    const stop = new AbortController();
    let followed = "";
    for await (const piece of log.follow({ tailLines: 1, signal: stop.signal })) {
      followed += piece;
      if (followed === "c\n") await writeFile(path, "x\n");
      if (followed === "c\nx\n") stop.abort();
    }
    assert.equal(followed, "c\nx\n");
  });
});
