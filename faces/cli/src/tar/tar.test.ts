import assert from "node:assert/strict";
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { afterEach, beforeEach, test } from "node:test";
import { run } from "@skep/base";
import { type Header, pack } from "tar-stream";
import { extractTar } from "./extract.ts";
import { packTar } from "./pack.ts";

let root = "";
let target = "";
beforeEach(async () => {
  root = await mkdtemp("/tmp/skep-tar-");
  target = join(root, "target");
  await mkdir(target);
  await writeFile(join(root, "outside"), "untouched");
});
afterEach(() => rm(root, { recursive: true }));

type Entry = Partial<Header> & { name: string; body?: string };

async function tarOf(...entries: Entry[]): Promise<Buffer> {
  const stream = pack();
  for (const { body, ...header } of entries) stream.entry(header, body ?? "");
  stream.finalize();
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece as Uint8Array);
  return Buffer.concat(pieces);
}

/** In pieces of odd length, as a network brings them. */
async function* inPieces(bytes: Buffer, length = 700) {
  for (let at = 0; at < bytes.length; at += length) yield bytes.subarray(at, at + length);
}

const extract = async (bytes: Buffer) => {
  const leftOut: string[] = [];
  await extractTar(inPieces(bytes), { target, onLeftOut: (name) => leftOut.push(name) });
  return leftOut;
};

test("nothing is written outside the target", async () => {
  const hostile: Entry[][] = [
    [{ name: "/etc/evil", body: "x" }],
    [{ name: "../outside", body: "x" }],
    [{ name: "a/../../outside", body: "x" }],
    [{ name: `${"a/".repeat(3000)}x`, body: "x" }],
    [{ name: "hard", type: "link", linkname: "../outside" }],
    [{ name: "hard", type: "link", linkname: join(root, "outside") }],
    [{ name: "hard", type: "link", linkname: "never-sent" }],
  ];
  for (const entries of hostile) {
    await assert.rejects(
      extract(await tarOf(...entries)),
      { code: "TAR_UNSAFE" },
      JSON.stringify(entries).slice(0, 100),
    );
  }
  assert.equal(await readFile(join(root, "outside"), "utf8"), "untouched");
  assert.deepEqual((await readdir(root)).sort(), ["outside", "target"]);
});

test("links that lead out and devices are left out, also through other links", async () => {
  const leftOut = await extract(
    await tarOf(
      { name: "absolute", type: "symlink", linkname: "/etc/passwd" },
      { name: "up", type: "symlink", linkname: ".." },
      { name: "deep/a/top", type: "symlink", linkname: "../.." },
      { name: "through", type: "symlink", linkname: "deep/a/top/.." },
      { name: "device", type: "character-device", devmajor: 1, devminor: 3 },
      { name: "fine", type: "symlink", linkname: "deep/a" },
    ),
  );
  assert.deepEqual(leftOut, ["absolute", "up", "through", "device"]);
  assert.equal(await readlink(join(target, "fine")), "deep/a");
});

test("a link is never written through, were it sent or there before", async () => {
  const sent = await tarOf(
    { name: "dir", type: "directory" },
    { name: "link", type: "symlink", linkname: "dir" },
    { name: "link/file", body: "x" },
  );
  await assert.rejects(extract(sent), /goes through a symbolic link/);
  await symlink(root, join(target, "here"));
  await assert.rejects(
    extract(await tarOf({ name: "here/outside", body: "x" })),
    /goes through a symbolic link/,
  );
  await symlink(join(root, "outside"), join(target, "file"));
  await extract(await tarOf({ name: "file", body: "new" }));
  assert.equal(await readFile(join(root, "outside"), "utf8"), "untouched");
  assert.equal(await readFile(join(target, "file"), "utf8"), "new");
});

test("a file takes no directory's place", async () => {
  await mkdir(join(target, "dir"));
  await assert.rejects(extract(await tarOf({ name: "dir", body: "x" })), /replace a directory/);
});

test("a stream that is cut off leaves no partial file", async () => {
  const whole = await tarOf(
    { name: "first", body: "1".repeat(5000) },
    { name: "second", body: "2".repeat(5000) },
  );
  await assert.rejects(extract(whole.subarray(0, 9000)), { code: "TAR_LIMIT" });
  assert.deepEqual(await readdir(target), ["first"]);
  await assert.rejects(extract(Buffer.alloc(0)), { code: "TAR_LIMIT" });
});

test("headers that lie are refused: sizes, checksums, extended headers", async () => {
  const bytes = await tarOf({ name: "a", body: "x" });
  bytes[0] = 0x62;
  await assert.rejects(extract(bytes), /checksum/);
  const huge = await tarOf({ name: "n".repeat(300), body: "x" });
  assert.equal(String.fromCharCode(huge[156]!), "x");
  huge.write("77777777777", 124);
  fixSum(huge);
  await assert.rejects(extract(huge), /extended header is too large/);
});

function fixSum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  const sum = block.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
}

test("the number of entries is limited", async () => {
  const bytes = await tarOf({ name: "a" }, { name: "b" }, { name: "c" });
  await assert.rejects(
    extractTar(inPieces(bytes), { target, limits: { entries: 2, headerBytes: 1024 } }),
    /more than 2 entries/,
  );
});

test("set-id bits go, modes, times and hard links stay", async () => {
  const mtime = new Date("2020-01-02T03:04:05Z");
  await extract(
    await tarOf(
      { name: "dir", type: "directory", mode: 0o500, mtime },
      { name: "dir/tool", mode: 0o4755, mtime, body: "x" },
      { name: "dir/same", type: "link", linkname: "dir/tool" },
    ),
  );
  const tool = await stat(join(target, "dir/tool"));
  assert.equal(tool.mode & 0o7777, 0o755);
  assert.equal(tool.mtimeMs, mtime.getTime());
  assert.equal((await stat(join(target, "dir/same"))).ino, tool.ino);
  const directory = await stat(join(target, "dir"));
  assert.equal(directory.mode & 0o7777, 0o500);
  assert.equal(directory.mtimeMs, mtime.getTime());
  await chmod(join(target, "dir"), 0o700);
});

test("what the system's tar packs is read, long names and all, and what we pack it reads", async () => {
  const source = join(root, "source");
  const long = `${"long-".repeat(30)}name`;
  await mkdir(join(source, long, "empty"), { recursive: true });
  await writeFile(join(source, long, "ü.txt"), "text", { mode: 0o640 });
  await writeFile(join(source, "large"), Buffer.alloc(3_000_001, 7));
  await symlink("large", join(source, "link"));
  const time = new Date("2021-06-07T08:09:10Z");
  await utimes(join(source, "large"), time, time);
  for (const format of ["gnu", "pax"]) {
    const archive = join(root, `${format}.tar`);
    await run("tar", ["-C", source, `--format=${format}`, "-cf", archive, "."]);
    await rm(target, { recursive: true });
    await mkdir(target);
    await extractTar(inPieces(await readFile(archive), 4096), { target });
    assert.equal(await readFile(join(target, long, "ü.txt"), "utf8"), "text");
    assert.equal((await stat(join(target, "large"))).mtimeMs, time.getTime());
  }
  const packed = await buffer(
    Readable.from(packTar([{ path: source, name: "copy" }]) as AsyncIterable<Uint8Array>),
  );
  await run("tar", ["-C", target, "-xpf", "-"], { input: packed });
  assert.equal((await stat(join(target, "copy", long, "ü.txt"))).mode & 0o777, 0o640);
  assert.equal((await stat(join(target, "copy/large"))).size, 3_000_001);
  assert.ok((await lstat(join(target, "copy/link"))).isSymbolicLink());
});
