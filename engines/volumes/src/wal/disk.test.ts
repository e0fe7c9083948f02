import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { disk } from "@skep/objects/files";
import { Random } from "@skep/objects/simulation";
import { Pace } from "../pace.ts";
import { inspectWal, setAside } from "./inspect.ts";
import type { ReplayEntry } from "./scan.ts";
import { Wal } from "./wal.ts";

describe("the write-ahead log on a real disk", () => {
  const random = new Random(1);
  const seen = new Map<number, number>();
  let home: string;
  let directory: string;

  beforeEach(async () => {
    home = await mkdtemp("/tmp/wal-");
    directory = join(home, "wal");
  });
  afterEach(() => rm(home, { recursive: true }));

  function open(isEncrypted: boolean, isQuick = true): Promise<Wal> {
    seen.clear();
    const pace = new Pace(() => 0);
    pace.quick = () => isQuick;
    const note = ({ block, count, position }: ReplayEntry) => {
      for (let i = 0; i < count; i += 1) seen.set(block + i, position);
    };
    return Wal.open({
      files: disk,
      directory,
      volume: "vol-00000000000000001",
      word: 7n,
      epoch: 1,
      firstSegment: 1,
      key: isEncrypted ? { segmentKey: (_, number) => createSecretKey(Buffer.alloc(32, number)) } : null,
      segmentBytes: 256 * 1024,
      random: (count) => random.bytes(count),
      pace,
      replay: note,
    });
  }

  for (const isEncrypted of [false, true]) {
    for (const isQuick of [true, false]) {
      const how = `${isEncrypted ? "encrypted" : "plain"}, ${isQuick ? "in place" : "through the pool"}`;

      it(`keeps, syncs, replays and reads what was appended: ${how}`, async () => {
        const wal = await open(isEncrypted, isQuick);
        const places = await Promise.all(
          Array.from({ length: 100 }, async (_, block) => {
            const [place] = await wal.append([{ block, data: Buffer.alloc(8192, block + 1) }]);
            if (block % 10 === 0) await wal.sync();
            return place ?? assert.fail();
          }),
        );
        for (const [block, { segment, position }] of places.entries()) {
          const read = await wal.read(segment, position, 2);
          for (const one of read) assert.ok(Buffer.alloc(4096, block + 1).equals(one));
        }
        assert.equal(wal.segments, (await readdir(directory)).length);
        await wal.close();
        const reopened = await open(isEncrypted, isQuick);
        assert.deepEqual([...seen.keys()].sort((one, other) => one - other).length, 101);
        assert.deepEqual(reopened.gaps, []);
        assert.equal(reopened.sequence, 200n);
        await reopened.remove(reopened.lastSegment);
        await reopened.close();
        assert.deepEqual(await readdir(directory), []);
      });
    }
  }

  it("reads what a removal under way takes away", async () => {
    const wal = await open(false, false);
    const [place] = await wal.append([{ block: 1, data: Buffer.alloc(4096, 1) }]);
    const { segment, position } = place ?? assert.fail();
    const reading = wal.read(segment, position, 1);
    await wal.remove(wal.seal());
    assert.equal((await reading)[0]?.[0], 1);
    assert.throws(() => wal.read(segment, position, 1), { code: "VOLUME_DAMAGED" });
    await wal.close();
  });

  it("syncs what a removal under way takes away", async () => {
    const wal = await open(false);
    for (const block of [1, 2, 3, 4]) {
      await wal.append([{ block, data: Buffer.alloc(4096, block) }]);
      wal.seal();
    }
    const syncing = wal.sync();
    await wal.remove(wal.seal());
    await syncing;
    await wal.append([{ block: 5, data: Buffer.alloc(4096, 5) }]);
    await wal.sync();
    await wal.close();
  });

  it("ends at a torn tail, goes on behind it, and is inspected and set aside", async () => {
    const wal = await open(false);
    for (const block of [1, 2, 3]) await wal.append([{ block, data: Buffer.alloc(4096, block) }]);
    await wal.close();
    const path = join(directory, "00000001.wal");
    await truncate(path, (await stat(path)).size - 1);
    const reopened = await open(false);
    assert.deepEqual([...seen.keys()], [1, 2]);
    await reopened.append([{ block: 4, data: Buffer.alloc(4096, 4) }]);
    await reopened.close();
    const reports = await inspectWal({ files: disk, directory });
    assert.deepEqual(
      reports.map(({ number, slots, gaps }) => ({ number, slots, gaps })),
      [
        { number: 1, slots: 2, gaps: [] },
        { number: 2, slots: 1, gaps: [] },
      ],
    );
    const target = await setAside({ files: disk, directory, epoch: 2, segments: [1, 2] });
    assert.deepEqual((await readdir(target)).sort(), ["00000001.wal", "00000002.wal"]);
    assert.deepEqual(await inspectWal({ files: disk, directory: join(home, "none") }), []);
  });
});
