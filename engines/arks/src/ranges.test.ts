import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { suite, test } from "node:test";
import { IdleThreads, MemoryThreads } from "./memory-threads.ts";
import { populatedRanges, type Range, without } from "./ranges.ts";
import { makeMemory, ownDirectory, seededBytes, smallMemory } from "./testing.ts";
import { chunkBytes } from "./types.ts";

const range = ([start, end]: readonly [number, number]): Range => ({ start, end });

suite("ranges of a memory file", () => {
  test("tell all that is no hole, with gaps that are not worth their own copy", async (t) => {
    const path = join(await ownDirectory(t, "/dev/shm"), "ram");
    await makeMemory(path, 64 * 4096, [
      { offset: 4096, bytes: Buffer.alloc(100, 1) },
      { offset: 3 * 4096, bytes: Buffer.alloc(4096, 1) },
      { offset: 40 * 4096, bytes: Buffer.alloc(2 * 4096, 1) },
    ]);
    assert.deepEqual(await populatedRanges(path, 64 * 4096, undefined), [
      { start: 4096, end: 4 * 4096 },
      { start: 40 * 4096, end: 42 * 4096 },
    ]);
    await assert.rejects(populatedRanges(path, 65 * 4096, undefined), { code: "STATE_MEMORY" });
  });

  const cases: [readonly [number, number][], readonly [number, number][], readonly [number, number][]][] = [
    [[[0, 10]], [], [[0, 10]]],
    [[[0, 10]], [[0, 10]], []],
    [[[2, 8]], [[0, 10]], []],
    [
      [[0, 10]],
      [
        [2, 4],
        [6, 8],
      ],
      [
        [0, 2],
        [4, 6],
        [8, 10],
      ],
    ],
    [
      [
        [0, 4],
        [6, 10],
      ],
      [[2, 8]],
      [
        [0, 2],
        [8, 10],
      ],
    ],
    [
      [
        [0, 2],
        [4, 6],
        [8, 10],
      ],
      [[3, 5]],
      [
        [0, 2],
        [5, 6],
        [8, 10],
      ],
    ],
    [[], [[0, 10]], []],
  ];
  for (const [ranges, others, left] of cases) {
    test(`${JSON.stringify(ranges)} without ${JSON.stringify(others)}`, () => {
      const found = without(ranges.map(range), others.map(range));
      assert.deepEqual([...found], left.map(range));
    });
  }
});

async function endAll(idle: IdleThreads): Promise<number> {
  let ended = 0;
  for (let thread = idle.take(); thread !== undefined; thread = idle.take()) {
    await thread.end();
    ended += 1;
  }
  return ended;
}

suite("copying of memory", () => {
  test("brings over every byte of the pieces, zeros too, and nothing else", async (t) => {
    const directory = await ownDirectory(t);
    const [from, into] = [join(directory, "from"), join(directory, "into")];
    const { bytes: memoryBytes } = smallMemory;
    await makeMemory(from, memoryBytes, smallMemory.contents());
    await makeMemory(into, memoryBytes, [{ offset: 0, bytes: seededBytes("before", memoryBytes) }]);
    const expected = await readFile(into);
    const pieces = [
      { from: 0, to: 4096, bytes: 5 * chunkBytes + 12_345 },
      { from: 9 * chunkBytes, to: 30 * chunkBytes, bytes: 12 * chunkBytes },
      { from: memoryBytes - 4096, to: memoryBytes - 4096, bytes: 4096 },
    ];
    const source = await readFile(from);
    for (const piece of pieces) source.copy(expected, piece.to, piece.from, piece.from + piece.bytes);
    await using threads = new MemoryThreads({ from, into, memoryBytes });
    await threads.copy(pieces, undefined);
    assert.ok((await readFile(into)).equals(expected));
    await threads.copy([], undefined);
  });

  test("says where what it reads ends too early, or is not there", async (t) => {
    const directory = await ownDirectory(t);
    const [from, into] = [join(directory, "from"), join(directory, "into")];
    await writeFile(from, Buffer.alloc(4096));
    await makeMemory(into, chunkBytes, []);
    {
      await using threads = new MemoryThreads({ from, into, memoryBytes: chunkBytes });
      await assert.rejects(threads.copy([{ from: 0, to: 0, bytes: 8192 }], undefined), /ends at byte 4096/);
    }
    await using none = new MemoryThreads({ from: join(directory, "none"), into, memoryBytes: chunkBytes });
    await assert.rejects(none.copy([{ from: 0, to: 0, bytes: 1 }], undefined), { code: "ENOENT" });
  });

  test("is done by threads that wait for it, whatever they were used for before", async (t) => {
    const directory = await ownDirectory(t);
    const names = ["one", "other", "copy"].map((name) => join(directory, name));
    const [one, other, into] = names as [string, string, string];
    await writeFile(one, Buffer.alloc(4096, 1));
    await writeFile(other, Buffer.alloc(4096, 2));
    await makeMemory(into, 4096, []);
    await using idle = new IdleThreads();
    const whole = [{ from: 0, to: 0, bytes: 4096 }];
    for (const from of [one, join(directory, "none"), other]) {
      await using threads = new MemoryThreads({ from, into, memoryBytes: 4096 }, idle);
      const copied = threads.copy(whole, undefined);
      if (from.endsWith("none")) await assert.rejects(copied, { code: "ENOENT" });
      else await copied;
    }
    assert.ok((await readFile(into)).equals(Buffer.alloc(4096, 2)));
    const count = Math.min(2, availableParallelism());
    assert.equal(await endAll(idle), count);
    const threads = new MemoryThreads({ from: one, into, memoryBytes: 4096 }, idle);
    const given = threads.copy(whole, undefined);
    await threads[Symbol.asyncDispose](); // the busy one comes back when it has done what it was asked
    await given;
    assert.equal(await endAll(idle), count);
  });
});
