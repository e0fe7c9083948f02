import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { appendFile, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout } from "node:timers/promises";
import { disk } from "./disk.ts";
import { EmbeddedStore } from "./embedded.ts";
import type { Files } from "./files.ts";
import type { Finding } from "./store/check.ts";
import { inPieces, owner, TestStore } from "./testing/store.ts";

async function findings(store: EmbeddedStore, deep = false): Promise<Finding[]> {
  const found: Finding[] = [];
  for await (const finding of store.check({ deep })) found.push(finding);
  return found;
}

async function files(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
}

async function blobOf(test: TestStore): Promise<string> {
  const [blob, ...others] = await files(join(test.directory, "blobs"));
  assert.deepEqual(others, []);
  return blob as string;
}

/** A blob that no object has. */
async function makeOrphan(test: TestStore): Promise<string> {
  const folder = join(test.directory, "blobs", "00");
  await mkdir(folder, { recursive: true });
  const path = join(folder, "0".repeat(32));
  await writeFile(path, "left by a crash");
  return path;
}

/** Turns over a bit of a file. */
async function damage(path: string, position: number): Promise<void> {
  await using file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, position);
  byte[0] = (byte[0] as number) ^ 1;
  await file.write(byte, 0, 1, position);
}

const firstSegment = (test: TestStore) => join(test.directory, "journal", "0000000001.log");

describe("an opened store", () => {
  it("is one process's", async () => {
    await using test = await TestStore.make();
    await assert.rejects(EmbeddedStore.open({ directory: test.directory }), { code: "STORE_LOCKED" });
    assert.throws(() => EmbeddedStore.rebuild({ directory: test.directory }), { code: "STORE_LOCKED" });
  });

  it("finishes what was asked before it closes, and refuses what is asked after", async () => {
    await using test = await TestStore.make();
    const puts = Array.from({ length: 50 }, (_, i) => test.put(`${i}`, `${i}`));
    await test.store.close();
    await Promise.all(puts);
    await assert.rejects(test.put("late", "x"));
    await test.open();
    assert.equal((await test.store.list("bucket")).objects.length, 50);
  });

  it("makes its index anew where that is gone or damaged, and says so", async () => {
    await using test = await TestStore.make();
    await test.put("a", "small");
    await test.put("b", Buffer.alloc(300_000, 1));
    await test.store.delete("bucket", "a", { owner });
    await test.put("a", "again");
    const { objects } = await test.store.list("bucket");
    const index = join(test.directory, "index.db");
    for (const ruin of [
      () => rm(index),
      () => writeFile(index, "this is no database, though it is as long as one".repeat(300)),
      async () => {
        // Its first page is whole, the others are not.
        const { size } = await stat(index);
        const head = await readFile(index);
        await writeFile(index, Buffer.concat([head.subarray(0, 4096), Buffer.alloc(size - 4096, 0x55)]));
      },
    ]) {
      await test.store.close();
      await ruin();
      await test.open();
      assert.deepEqual((await test.store.list("bucket")).objects, objects);
      assert.equal(await test.text("a"), "again");
      assert.deepEqual(await findings(test.store, true), []);
    }
    assert.match(test.log.join("\n"), /the index was made anew from the journal/);
  });

  it("removes what a crash has left of blobs", async () => {
    await using test = await TestStore.make();
    await test.put("a", Buffer.alloc(300_000, 1));
    const blob = await blobOf(test);
    const orphan = await makeOrphan(test);
    await test.reopen({ sweepOnOpen: true });
    for (let i = 0; i < 1000 && existsSync(orphan); i += 1) await setTimeout(5);
    assert.equal(await blobOf(test), blob);
  });

  it("cuts off what a crash has torn", async () => {
    await using test = await TestStore.make();
    await test.put("a", "whole");
    await test.store.close();
    await appendFile(firstSegment(test), Buffer.alloc(100, 0x53));
    await test.open();
    assert.match(test.log.join("\n"), /100 bytes that a crash had torn/);
    await test.put("b", "after");
    await test.reopen();
    assert.equal(await test.text("a"), "whole");
    assert.equal(await test.text("b"), "after");
  });

  it("refuses a journal of another version by its name, and leaves it as it is", async () => {
    await using test = await TestStore.make();
    await test.store.close();
    const path = firstSegment(test);
    const bytes = await readFile(path);
    const { crc32 } = await import("node:zlib");
    bytes.writeUInt32LE(7, 8);
    bytes.writeUInt32LE(crc32(bytes.subarray(0, 24)), 24);
    await writeFile(path, bytes);
    await assert.rejects(test.open(), { code: "FILE_VERSION", message: /0000000001\.log has version 7/ });
    assert.deepEqual(await readFile(path), bytes);
  });

  it("does not pass over what it can no longer read of the journal, unless it is told to", async () => {
    await using test = await TestStore.make();
    for (const key of ["a", "b", "c"]) await test.put(key, `body of ${key}`);
    await test.store.close();
    const path = firstSegment(test);
    await damage(path, (await readFile(path)).indexOf('"key":"b"') + 7);
    await rm(join(test.directory, "index.db"));
    await assert.rejects(test.open(), { code: "STORE_DAMAGED", message: /segment 1 at byte/ });
    const recovery = EmbeddedStore.rebuild({ directory: test.directory, salvage: true });
    assert.equal(recovery.damaged.length, 1);
    await test.open();
    assert.equal(await test.text("c"), "body of c");
    assert.deepEqual(
      (await test.store.list("bucket")).objects.map(({ key }) => key),
      ["a", "c"],
    );
  });

  it("takes no body for a part of the journal, whatever is in it", async () => {
    await using test = await TestStore.make();
    await test.put("a", "x");
    const journal = await readFile(firstSegment(test));
    // All of the journal as it is, in an object, and then a crash that tears that object's record.
    await test.put("b", journal);
    await test.store.close();
    const { size } = await stat(firstSegment(test));
    await truncate(firstSegment(test), size - 1);
    await rm(join(test.directory, "index.db"));
    await test.open();
    assert.deepEqual(
      (await test.store.list("bucket")).objects.map(({ key }) => key),
      ["a"],
    );
  });
});

describe("damage on the disk", () => {
  it("of a small object is an error for its reader, and found", async () => {
    await using test = await TestStore.make();
    await test.put("a", "the bytes of a");
    await test.put("b", "the bytes of b");
    const path = firstSegment(test);
    await damage(path, (await readFile(path)).indexOf("bytes of a"));
    await assert.rejects(test.read("a"), { code: "OBJECT_DAMAGED", message: /"a"/ });
    assert.equal(await test.text("b"), "the bytes of b");
    const [found, ...others] = await findings(test.store);
    assert.deepEqual([found?.kind, found?.kind === "object" && found.key, others], ["object", "a", []]);
  });

  it("of a large object is an error only for those who read that block", async () => {
    await using test = await TestStore.make();
    await test.put("a", Buffer.alloc(1_000_000, "abc"));
    await damage(await blobOf(test), 300_000);
    await using opened = await test.store.open("bucket", "a");
    const read = async (start: number, end: number) => {
      for await (const _ of opened.read({ start, end }));
    };
    await read(0, 262_144);
    await read(524_288, 1_000_000);
    await assert.rejects(read(262_143, 262_145), { code: "OBJECT_DAMAGED", message: /block at byte 262144/ });
    assert.deepEqual(await findings(test.store), []);
    assert.match((await findings(test.store, true))[0]?.why ?? "", /block at byte 262144/);
  });

  it("finds what is missing, cut off, and left over", async () => {
    await using test = await TestStore.make();
    await test.put("a", Buffer.alloc(300_000, 1));
    const blob = await blobOf(test);
    await truncate(blob, 299_000);
    await assert.rejects(test.read("a"), { code: "OBJECT_DAMAGED" });
    assert.equal((await findings(test.store))[0]?.kind, "object");
    await rm(blob);
    await assert.rejects(test.read("a"), { code: "OBJECT_DAMAGED", message: /gone/ });
    const orphan = await makeOrphan(test);
    assert.deepEqual(
      (await findings(test.store)).map(({ kind }) => kind),
      ["object", "orphan"],
    );
    assert.deepEqual(await test.store.sweep(), { removed: 1 });
    assert.ok(!existsSync(orphan));
  });
});

describe("a full disk", () => {
  /** Writes fail once so many bytes were written. */
  function limited(limit: { bytes: number }): Files {
    const take = (buffers: readonly Uint8Array[]) => {
      limit.bytes -= buffers.reduce((sum, buffer) => sum + buffer.length, 0);
      if (limit.bytes < 0) throw Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" });
    };
    return {
      ...disk,
      openSync: (path, mode) => {
        const file = disk.openSync(path, mode);
        return {
          ...file,
          write: (buffers, position) => {
            file.write([Buffer.concat(buffers).subarray(0, Math.max(0, limit.bytes))], position);
            take(buffers);
          },
        };
      },
      open: async (path, mode) => {
        const file = await disk.open(path, mode);
        return {
          ...file,
          write: async (buffers, position) => {
            take(buffers);
            await file.write(buffers, position);
          },
        };
      },
      freeBytesSync: () => Math.max(0, limit.bytes),
    };
  }

  it("fails puts, changes nothing, and is forgotten once there is space", async () => {
    const limit = { bytes: 1_000_000 };
    await using test = await TestStore.make({ files: limited(limit), reserveBytes: 0 });
    await test.put("small", "old");
    await test.put("large", Buffer.alloc(200_000, 1));
    limit.bytes = 50;
    await assert.rejects(test.put("small", "new".repeat(100)), { code: "STORE_FULL", status: 507 });
    await assert.rejects(test.put("large", Buffer.alloc(400_000, 2)), { code: "STORE_FULL" });
    await assert.rejects(test.put("large", inPieces(Buffer.alloc(400_000, 2), 1000)), { code: "STORE_FULL" });
    assert.equal(await test.text("small"), "old");
    assert.equal((await test.read("large")).length, 200_000);
    assert.deepEqual(await findings(test.store, true), []);
    limit.bytes = 1_000_000;
    await test.put("small", "new");
    await test.reopen();
    assert.equal(await test.text("small"), "new");
  });

  it("still lets objects be deleted while a reserve is left", async () => {
    const limit = { bytes: 10_000_000 };
    await using test = await TestStore.make({ files: limited(limit), reserveBytes: 1_000_000 });
    await test.put("a", "x");
    limit.bytes = 900_000;
    await assert.rejects(test.put("b", "x"), { code: "STORE_FULL" });
    await test.store.delete("bucket", "a", { owner });
    assert.deepEqual((await test.store.list("bucket")).objects, []);
  });
});

describe("cleaning", () => {
  it("gives back the journal's space and keeps every object", async () => {
    await using test = await TestStore.make({ segmentBytes: 100_000 });
    const size = async () =>
      Promise.all(
        // One that is cleaned away meanwhile has no size.
        (await files(join(test.directory, "journal"))).map((path) =>
          stat(path).then(
            ({ size }) => size,
            () => 0,
          ),
        ),
      ).then((sizes) => sizes.reduce((sum, one) => sum + one, 0));
    for (let i = 0; i < 20; i += 1) await test.put(`kept/${i}`, `${i}`.repeat(1000));
    for (let round = 0; round < 40; round += 1) {
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => test.put(`again/${i}`, `${round} `.repeat(500))),
      );
    }
    const live = await test.store.usage("bucket");
    for (let i = 0; i < 1000 && (await size()) > 3 * live.bytes + 200_000; i += 1)
      await test.put("tick", `${i}`);
    assert.ok((await size()) <= 3 * live.bytes + 200_000);
    assert.ok(!(await files(join(test.directory, "journal"))).includes(firstSegment(test)));
    for (let again = 0; again < 2; again += 1) {
      for (let i = 0; i < 20; i += 1) {
        assert.equal(await test.text(`kept/${i}`), `${i}`.repeat(1000));
        assert.equal(await test.text(`again/${i}`), "39 ".repeat(500));
      }
      assert.deepEqual(await findings(test.store, true), []);
      await test.store.close();
      EmbeddedStore.rebuild({ directory: test.directory });
      await test.open();
    }
  });
});

describe("an open version", () => {
  it("stays whole while its object is overwritten and deleted", async () => {
    await using test = await TestStore.make();
    await test.put("a", Buffer.alloc(3_000_000, 1));
    const blob = await blobOf(test);
    {
      await using opened = await test.store.open("bucket", "a");
      await test.put("a", "new");
      await test.store.delete("bucket", "a", { owner });
      let received = 0;
      for await (const piece of opened.read()) {
        assert.ok(piece.every((byte) => byte === 1));
        received += piece.length;
      }
      assert.equal(received, 3_000_000);
      assert.deepEqual(await test.store.sweep(), { removed: 0 });
    }
    await test.store.close();
    await assert.rejects(stat(blob), { code: "ENOENT" });
    await test.open();
  });
});
