import assert from "node:assert/strict";
import { hash } from "node:crypto";
import { cp, mkdir, open, readFile, rename, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { checkState } from "./check.ts";
import { unpackDevice } from "./device.ts";
import { decodeIndex, encodeIndex } from "./index-codec.ts";
import { readManifest, writeManifest } from "./manifest.ts";
import { statePaths } from "./paths.ts";
import {
  copyState,
  damageFile,
  type MadeState,
  makeMemory,
  makeState,
  seededBytes,
  smallMemory,
} from "./testing.ts";
import { chunkBytes, type MemoryIndex, type MemoryRow, type StateManifest } from "./types.ts";
import { unpackMemory } from "./unpack.ts";

/** What resume does with a state: all of it, up to the first damage. */
async function use({ home, directory }: MadeState): Promise<void> {
  const { manifest } = await readManifest(directory);
  await unpackDevice({ directory, manifest });
  const into = join(home, "into");
  await makeMemory(into, manifest.memory.bytes, []);
  await unpackMemory({ directory, manifest, into });
}

/** That a state is refused for this, and that a check finds it too. */
async function assertDamaged(state: MadeState, object: RegExp, why: RegExp): Promise<void> {
  await assert.rejects(use(state), (error: Error & { code?: string }) => {
    assert.equal(error.code, "STATE_DAMAGED", error.message);
    assert.ok(error.message.includes(`"${basename(state.directory)}"`), error.message);
    assert.match(error.message, object);
    assert.match(error.message, why);
    return true;
  });
  const damages = await checkState(state.directory);
  assert.ok(damages.some((damage) => object.test(damage.object) && why.test(damage.why)));
}

type Change = (index: MemoryIndex, pack: Buffer) => Buffer;

/** Writes a lie that is consistent in itself: index, digests and manifest fit each other. */
async function forge(
  state: MadeState,
  change: Change,
  manifestOf: (manifest: StateManifest) => void = () => {},
): Promise<void> {
  const { directory, manifest } = state;
  const paths = statePaths(directory);
  const index = decodeIndex(await readFile(paths.index));
  const pack = change(index, await readFile(paths.pack));
  const bytes = encodeIndex(index);
  await writeFile(paths.pack, pack);
  await writeFile(paths.index, bytes);
  manifest.memory.index = { bytes: bytes.length, sha256: hash("sha256", bytes, "hex") };
  manifest.memory.packBytes = index.packBytes;
  manifest.memory.chunks = index.rows.length;
  manifestOf(manifest);
  await writeManifest(directory, manifest);
}

/** Stores something else in the place of a chunk, with its right digest. */
function replaceChunk(index: MemoryIndex, pack: Buffer, chunk: number, stored: Uint8Array): Buffer {
  const row = index.rows.find((one) => one.chunk === chunk);
  assert.ok(row !== undefined);
  const end = row.offset + row.length;
  const grown = stored.length - row.length;
  for (const other of index.rows) if (other.offset > row.offset) other.offset += grown;
  Object.assign(row, { length: stored.length, sha256: hash("sha256", stored, "buffer") });
  index.packBytes += grown;
  return Buffer.concat([pack.subarray(0, row.offset), stored, pack.subarray(end)]);
}

const changeRow =
  (at: number, change: Partial<MemoryRow>): Change =>
  ({ rows }, pack) => {
    Object.assign(rows[at] ?? {}, change);
    return pack;
  };

const moveRow =
  (at: number, by: number): Change =>
  (index, pack) =>
    changeRow(at, { offset: (index.rows[at]?.offset ?? 0) + by })(index, pack);

const flip = (at: number) => (bytes: Buffer) => {
  bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
  return bytes;
};

/** A chunk of sevens (RFC 8878, 3.1.1): eight blocks that repeat one byte, behind a window of 2^27 bytes. */
function wideFrame(): Buffer {
  const blocks = Array.from({ length: 8 }, (_, index) => {
    const block = Buffer.from([0, 0, 0, 7]);
    block.writeUIntLE((index === 7 ? 1 : 0) + (1 << 1) + (131_072 << 3), 0, 3);
    return block;
  });
  return Buffer.concat([Buffer.from("28b52ffd0088", "hex"), ...blocks]);
}

suite("a damaged state", () => {
  let whole: MadeState;
  let other: MadeState;
  const made = new AsyncDisposableStack();
  after(() => made.disposeAsync());
  before(async () => {
    const forAll = { after: (clean: () => Promise<void>) => made.defer(clean) };
    whole = await makeState(forAll);
    other = await makeState(forAll, (manifest) => {
      manifest.machine.name = "db";
    });
  });

  test("is none, where nothing is wrong", async (t) => {
    const state = await copyState(t, whole);
    await use(state);
    assert.deepEqual(await checkState(state.directory), []);
  });

  test("is refused by its whole name where it is not there", async (t) => {
    const { directory } = await copyState(t, whole);
    await rm(directory, { recursive: true });
    await assert.rejects(readManifest(directory), { code: "STATE_NOT_FOUND" });
    await assert.rejects(checkState(directory), { code: "STATE_NOT_FOUND" });
  });

  for (const [file, name] of [
    ["manifest", "manifest.json"],
    ["device", "device.zst"],
    ["index", "memory.idx"],
    ["pack", "memory.pack"],
  ] as const) {
    const object = new RegExp(`^.*${name.replace(".", "\\.")}`);
    test(`with ${name} missing, cut off, grown, altered, a directory or a link is refused`, async (t) => {
      const state = await copyState(t, whole);
      const path = statePaths(state.directory)[file];
      const content = await readFile(path);
      await truncate(path, content.length - 1);
      await assertDamaged(state, object, /bytes|JSON|digest/);
      await truncate(path, 0);
      await assertDamaged(state, object, /bytes|JSON/);
      await writeFile(path, Buffer.concat([content, Buffer.from(" ")]));
      await assertDamaged(state, object, /bytes|digest/);
      await writeFile(path, flip(content.length - 40)(Buffer.from(content)));
      await assertDamaged(state, object, /digest|unknown/);
      await rename(path, join(state.home, "elsewhere"));
      await assertDamaged(state, object, /missing/);
      await symlink(join(state.home, "elsewhere"), path);
      await writeFile(path, content);
      await assertDamaged(state, object, /no regular file/);
      await rm(path);
      await mkdir(path);
      await assertDamaged(state, object, /no regular file/);
    });
  }

  test("has every damaged chunk named by a check, and the first by its use", async (t) => {
    const state = await copyState(t, whole);
    const { rows } = decodeIndex(await readFile(statePaths(state.directory).index));
    const [second, sixth] = [rows[1], rows[5]];
    assert.ok(second !== undefined && sixth !== undefined);
    await damageFile(state.directory, "pack", (pack) => flip(second.offset)(flip(sixth.offset + 3)(pack)));
    await assertDamaged(state, new RegExp(`chunk ${second.chunk} \\(bytes ${second.offset} to`), /digest/);
    const damages = await checkState(state.directory);
    assert.deepEqual(
      damages.map(({ object }) => /chunk (\d+)/.exec(object)?.[1]),
      [String(second.chunk), String(sixth.chunk)],
    );
  });

  test("writes nothing of a chunk that is not as it was", async (t) => {
    const state = await copyState(t, whole);
    await damageFile(state.directory, "pack", flip(10));
    await assert.rejects(use(state), { code: "STATE_DAMAGED" });
    const into = await open(join(state.home, "into"));
    t.after(() => into.close());
    const { buffer } = await into.read(Buffer.alloc(chunkBytes), 0, chunkBytes, 0);
    assert.ok(buffer.equals(Buffer.alloc(chunkBytes)));
  });

  for (const file of ["manifest", "device", "index", "pack"] as const) {
    test(`with another state's ${file} is refused`, async (t) => {
      const state = await copyState(t, whole);
      const { directory } = await copyState(t, other);
      // Of the same length each, so that only the content tells.
      await damageFile(directory, "device", flip(100));
      await damageFile(directory, "index", flip(100));
      await damageFile(directory, "pack", flip(100));
      await cp(statePaths(directory)[file], statePaths(state.directory)[file]);
      await assertDamaged(state, /./, /digest|of state/);
    });
  }

  test("with two chunks exchanged, and an index that fits, is what its digests say: not this state", async (t) => {
    const state = await copyState(t, whole);
    const { sha256 } = state.manifest.memory.index;
    await damageFile(state.directory, "index", (bytes) => {
      const index = decodeIndex(bytes);
      const [one, two] = [index.rows[0], index.rows[1]];
      assert.ok(one !== undefined && two !== undefined);
      [one.sha256, two.sha256] = [two.sha256, one.sha256];
      return encodeIndex(index);
    });
    assert.equal(state.manifest.memory.index.sha256, sha256);
    await assertDamaged(state, /memory\.idx/, /digest/);
  });

  const lies: [string, Change, RegExp][] = [
    ["a chunk beyond the end of memory", changeRow(6, { chunk: 65 }), /beyond the end/],
    ["chunks out of order", changeRow(1, { chunk: 9 }), /after chunk/],
    ["a chunk twice", changeRow(1, { chunk: 0 }), /after chunk/],
    ["a range outside the pack", moveRow(2, 2 ** 40), /at byte/],
    ["overlapping ranges", moveRow(2, -1), /at byte/],
    ["a gap between ranges", moveRow(2, 1), /at byte/],
    ["a chunk of no bytes", (index, pack) => replaceChunk(index, pack, 20, Buffer.alloc(0)), /in 0/],
    [
      "a chunk that takes more than it holds",
      (index, pack) => replaceChunk(index, pack, 20, Buffer.alloc(chunkBytes + 1)),
      /in 1048577/,
    ],
  ];
  for (const [what, change, why] of lies) {
    test(`whose index tells of ${what} is refused`, async (t) => {
      const state = await copyState(t, whole);
      await forge(state, (index, pack) => change(index, pack));
      await assertDamaged(state, /memory\.idx/, why);
    });
  }

  const contents: [string, Uint8Array, RegExp][] = [
    ["a bomb", zstdCompressSync(Buffer.alloc(2 ** 28)), /does not decompress/],
    ["a byte too few", zstdCompressSync(Buffer.alloc(chunkBytes - 1, 1)), /1048575 bytes instead/],
    [
      "two frames",
      Buffer.concat([1, 2].map(() => zstdCompressSync(Buffer.alloc(chunkBytes)))),
      /not decompress/,
    ],
    ["half a frame", zstdCompressSync(seededBytes("half", chunkBytes)).subarray(0, 9000), /not decompress/],
    [
      "a frame and more",
      Buffer.concat([zstdCompressSync(Buffer.alloc(chunkBytes)), Buffer.from("x")]),
      /not/,
    ],
    ["a frame with a window of 128 MiB", wideFrame(), /not decompress/],
    ["no frame", Buffer.from("what is this?"), /does not decompress/],
  ];
  for (const [what, stored, why] of contents) {
    test(`with ${what} for a chunk, of the right digest, is refused`, async (t) => {
      const state = await copyState(t, whole);
      await forge(state, (index, pack) => replaceChunk(index, pack, 20, stored));
      await assertDamaged(state, /memory\.pack, chunk 20 /, why);
    });
  }

  test("is none where an empty frame follows a chunk's, as Node writes them at times", async (t) => {
    const state = await copyState(t, whole);
    const parts = [Buffer.alloc(chunkBytes, 1), Buffer.alloc(0)];
    const stored = Buffer.concat(parts.map((part) => zstdCompressSync(part)));
    await forge(state, (index, pack) => replaceChunk(index, pack, 20, stored));
    assert.deepEqual(await checkState(state.directory), []);
  });

  test("with a bomb for its devices is refused", async (t) => {
    const state = await copyState(t, whole);
    const bomb = zstdCompressSync(Buffer.alloc(2 ** 28));
    await writeFile(statePaths(state.directory).device, bomb);
    const sha256 = hash("sha256", bomb, "hex");
    await forge(
      state,
      (_, pack) => pack,
      (manifest) => {
        Object.assign(manifest.device, { storedBytes: bomb.length, sha256 });
      },
    );
    await assertDamaged(state, /device\.zst/, /does not decompress/);
  });

  test("of whom the memory has another size than its index is refused", async (t) => {
    const state = await copyState(t, whole);
    await forge(
      state,
      (_, pack) => pack,
      ({ memory }) => {
        memory.bytes += chunkBytes;
      },
    );
    await assertDamaged(state, /memory\.idx/, /another memory/);
    assert.equal(smallMemory.bytes + chunkBytes, state.manifest.memory.bytes);
  });
});
