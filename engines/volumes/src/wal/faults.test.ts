import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { describe, it } from "node:test";
import { Random, Schedule, SimulatedFiles } from "@skep/objects/simulation";
import { Pace } from "../pace.ts";
import { inspectWal, setAside } from "./inspect.ts";
import type { WalOptions } from "./options.ts";
import type { ReplayEntry } from "./scan.ts";
import { headerBytes } from "./segment.ts";
import { Wal } from "./wal.ts";

const directory = "/v/wal";
const volume = "vol-00000000000000001";
const slot = 4128;

/** A host's disk, and a log on it. */
class Scene {
  readonly random = new Random(1);
  schedule = new Schedule(this.random, Number.POSITIVE_INFINITY);
  readonly files = new SimulatedFiles(this.random, this.schedule);
  replayed: ReplayEntry[] = [];
  isSlow = false;

  async run<T>(work: () => Promise<T>): Promise<T> {
    this.schedule = new Schedule(this.random, Number.POSITIVE_INFINITY);
    this.files.restart(this.schedule);
    const done = work();
    await this.schedule.run(done);
    return await done;
  }

  open(given: Partial<WalOptions> = {}): Promise<Wal> {
    this.replayed = [];
    const pace = new Pace(() => 0);
    pace.quick = () => !this.isSlow;
    return Wal.open({
      files: this.files,
      directory,
      volume,
      word: 7n,
      epoch: 1,
      firstSegment: 1,
      key: null,
      random: (count) => this.random.bytes(count),
      pace,
      replay: (entry) => this.replayed.push(entry),
      ...given,
    });
  }

  /** Until what is under way is done. */
  async pass(): Promise<void> {
    for (let turns = 0; turns < 20; turns += 1) await this.schedule.turn();
  }

  get blocks(): number[] {
    return this.replayed.flatMap(({ block, count }) => Array.from({ length: count }, (_, i) => block + i));
  }
}

const data = (value: number) => Buffer.alloc(4096, value);
const at = (index: number) => headerBytes + index * slot;
const path = (number: number) => `${directory}/0000000${number}.wal`;

async function fill(wal: Wal, blocks: readonly number[]): Promise<void> {
  for (const block of blocks) await wal.append([{ block, data: data(block) }]);
}

describe("a log that nobody flushes", () => {
  it("has all but its last bytes on stable storage, of which it knows", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ earlySyncBytes: 4 * slot });
      await fill(wal, [1, 2, 3, 4]);
      await scene.pass();
      await fill(wal, [5]);
    });
    scene.files.losePower();
    await scene.run(() => scene.open());
    assert.deepEqual(scene.blocks.slice(0, 4), [1, 2, 3, 4]);
  });

  it("tells the next one who writes that the sync has failed", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ earlySyncBytes: 2 * slot });
      scene.files.syncFailureProbability = 1;
      await fill(wal, [1, 2]);
      await scene.pass();
      scene.files.syncFailureProbability = 0;
      await assert.rejects(wal.sync(), { code: "EIO" });
      assert.throws(() => wal.append([{ block: 3, data: data(3) }]), { code: "EIO" });
    });
  });
});

describe("a log whose disk fails", () => {
  it("acknowledges nothing after a sync that failed, and keeps all of it over the next opening", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1, 2]);
      scene.files.syncFailureProbability = 1;
      await assert.rejects(wal.sync(), { code: "EIO" });
      scene.files.syncFailureProbability = 0;
      await assert.rejects(wal.sync(), { code: "EIO" });
      assert.throws(() => wal.append([{ block: 3, data: data(3) }]), { code: "EIO" });
      await assert.rejects(wal.close(), { code: "EIO" });
    });
    await scene.run(() => scene.open());
    scene.files.losePower();
    await scene.run(() => scene.open());
    assert.deepEqual(scene.blocks, [1, 2]);
  });

  it("answers no append that waited while a sync failed", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1]);
      scene.isSlow = true;
      scene.files.syncFailureProbability = 1;
      const results = await Promise.allSettled([wal.sync(), fill(wal, [2]).then(() => fill(wal, [3, 4]))]);
      assert.equal(results[0].status, "rejected");
      await assert.rejects(async () => wal.append([{ block: 5, data: data(5) }]), { code: "EIO" });
    });
  });

  it("is as it was after a write that a full disk refused", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1]);
      scene.files.fullProbability = 1;
      assert.throws(() => wal.append([{ block: 1, data: data(9) }]), { code: "ENOSPC" });
      await assert.rejects(async () => await wal.append([{ block: 2, data: data(9) }]), { code: "ENOSPC" });
      scene.files.fullProbability = 0;
      await fill(wal, [2]);
      await wal.close();
      const reopened = await scene.open();
      assert.deepEqual(scene.blocks, [1, 2]);
      assert.deepEqual(reopened.gaps, []);
      assert.equal(reopened.sequence, 2n);
    });
  });

  it("replays what lies behind damage, and says that synced writes are lost, and of which block", async () => {
    const scene = new Scene();
    const gaps = await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1, 2, 3]);
      await wal.sync();
      await fill(wal, [4, 5]);
      await wal.close();
      scene.files.damage(path(1), at(1) + 500);
      const reopened = await scene.open();
      await assert.rejects(async () => reopened.read(1, at(1), 1), { code: "VOLUME_DAMAGED" });
      return reopened.gaps;
    });
    assert.deepEqual(scene.blocks, [1, 3, 4, 5]);
    const gap = { path: path(1), position: at(1), bytes: slot, slots: 1, wasSynced: true };
    assert.deepEqual(gaps, [{ ...gap, blocks: [{ block: 2, count: 1 }] }]);
    const reports = await scene.run(() => inspectWal({ files: scene.files, directory }));
    assert.deepEqual(reports[0]?.gaps, gaps);
  });

  it("finds damage also where it crosses what is read at once", async () => {
    const scene = new Scene();
    const count = 600;
    const bad = [253, 254, 255, 256, 507, 508];
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(
        wal,
        Array.from({ length: count }, (_, block) => block),
      );
      await wal.close();
      for (const index of bad) scene.files.damage(path(1), at(index) + 100);
      const { gaps } = await scene.open();
      assert.deepEqual(
        gaps.flatMap(({ blocks }) => blocks.map(({ block }) => block)),
        bad,
      );
    });
    assert.equal(scene.blocks.length, count - bad.length);
  });

  it("says that a segment is missing", async () => {
    const scene = new Scene();
    const gaps = await scene.run(async () => {
      const wal = await scene.open({ segmentBytes: 3 * slot });
      await fill(wal, [1, 2, 3]);
      await wal.sync();
      await fill(wal, [4, 5, 6]);
      await wal.close();
      await scene.files.unlink(path(2));
      return (await scene.open()).gaps;
    });
    assert.deepEqual(scene.blocks, [1, 2, 5, 6]);
    const gap = { path: path(3), position: headerBytes, bytes: 0, slots: 2, blocks: [] };
    assert.deepEqual(gaps, [{ ...gap, wasSynced: true }]);
  });

  it("does not take a gap that it once knew for damage later", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1, 2, 3]);
      scene.files.damage(path(1), at(1) + 500);
      const reopened = await scene.open();
      assert.deepEqual(
        reopened.gaps.map(({ wasSynced }) => wasSynced),
        [false],
      );
      await fill(reopened, [4]);
      await reopened.sync();
      await fill(reopened, [5]);
      await reopened.close();
      assert.deepEqual(
        (await scene.open()).gaps.map(({ wasSynced }) => wasSynced),
        [false],
      );
    });
  });

  it("misses nothing that the store holds", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ segmentBytes: 3 * slot });
      await fill(wal, [1, 2]);
      const upTo = wal.seal();
      const sequence = wal.sealedSequence;
      await wal.sync();
      await fill(wal, [3]);
      await wal.sync();
      await wal.remove(upTo);
      await fill(wal, [4]);
      await wal.close();
      const reopened = await scene.open({ firstSegment: upTo + 1, sequence });
      assert.deepEqual(reopened.gaps, []);
      assert.deepEqual(scene.blocks, [3, 4]);
    });
  });
});

describe("a log that the store holds in part", () => {
  it("replays the rest of a run whose beginning the store has", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await wal.append([{ block: 1, data: Buffer.alloc(3 * 4096, 1) }]);
      await wal.append([{ block: 8, zeroes: 4 }]);
      await wal.close();
      await scene.open({ sequence: 1n });
    });
    const rest = { block: 2, count: 2, segment: 1, position: at(1), zeroes: false };
    const zeroes = { block: 8, count: 4, segment: 1, position: at(3), zeroes: true };
    assert.deepEqual(scene.replayed, [rest, zeroes]);
  });

  it("takes no older content of a block from a segment whose newer one a power loss took", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1, 1]);
      scene.isSlow = true;
      const later = fill(wal, [2]);
      const upTo = wal.seal();
      assert.equal(upTo, 0, "the segment is being written");
      const sequence = wal.sealedSequence;
      assert.equal(sequence, 2n);
      await later;
      scene.files.damage(path(1), at(1) + 100);
      await scene.open({ firstSegment: upTo + 1, sequence });
    });
    assert.deepEqual(scene.blocks, [2]);
  });

  it("loses the segments that a drain did not live to delete, and no others", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ segmentBytes: 2 * slot });
      await fill(wal, [1, 2, 3]);
      await wal.close();
      await scene.open({ firstSegment: 2, sequence: 1n });
    });
    assert.deepEqual(scene.blocks, [2, 3]);
    assert.deepEqual(scene.files.paths(), [path(2), path(3)]);
  });

  it("makes the segments that recovery found durable before it is open", async () => {
    const scene = new Scene();
    await scene.run(async () => fill(await scene.open(), [1, 2, 3]));
    await scene.run(() => scene.open());
    scene.files.losePower();
    await scene.run(() => scene.open());
    assert.deepEqual(scene.blocks, [1, 2, 3]);
  });
});

describe("segments that are not the log's", () => {
  it("stay as they are, and their numbers are not given again", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      await fill(await scene.open({ word: 8n }), [9]);
      const wal = await scene.open();
      assert.deepEqual(scene.blocks, []);
      await fill(wal, [1]);
      assert.equal(wal.lastSegment, 2);
      await wal.remove(wal.seal());
      await wal.close();
      await scene.open({ word: 8n });
      assert.deepEqual(scene.blocks, [9]);
    });
  });

  it("go aside, and never over others that did before", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      for (const block of [1, 2]) {
        await fill(await scene.open(), [block]);
        assert.equal(
          await setAside({ files: scene.files, directory, epoch: 3, segments: [1] }),
          "/v/wal-stale-00000003",
        );
      }
      assert.deepEqual(scene.files.paths(), [
        "/v/wal-stale-00000003/00000001.wal",
        "/v/wal-stale-00000003/00000001.wal.1",
      ]);
    });
  });

  it("are passed over where their header is torn", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ segmentBytes: 2 * slot });
      await fill(wal, [1, 2, 3]);
      await wal.close();
      scene.files.damage(path(2), 20);
      const reopened = await scene.open();
      assert.deepEqual(scene.blocks, [1, 3]);
      assert.equal(reopened.gaps.length, 1);
      await fill(reopened, [4]);
      assert.equal(reopened.lastSegment, 4);
    });
  });

  it("are refused where they are encrypted and the volume is not", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      await fill(await scene.open({ key: { segmentKey: () => createSecretKey(Buffer.alloc(32, 1)) } }), [1]);
      await assert.rejects(scene.open(), { code: "VOLUME_DAMAGED" });
    });
  });

  it("leave no slots to a later one in whose file's end they still lie", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [1, 2, 3]);
      const old = Buffer.alloc(scene.files.size(path(1)));
      await (await scene.files.open(path(1), "read")).read(old, 0);
      await wal.remove(wal.seal());
      await fill(wal, [7]);
      // As if the second file's blocks had been the first one's, and a power loss had left their content.
      const file = await scene.files.open(path(2), "write");
      await file.write([old.subarray(at(1))], at(1));
      const reopened = await scene.open({ firstSegment: 2 });
      assert.deepEqual(scene.blocks, [7]);
      assert.deepEqual(reopened.gaps, []);
    });
  });
});

describe("appends", () => {
  it("that wait for a slow disk go out in one write, in their order", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      await fill(wal, [0]);
      scene.isSlow = true;
      const writes: number[] = [];
      const open = scene.files.open.bind(scene.files);
      wal.seal();
      scene.files.open = async (name, mode) => {
        const file = await open(name, mode);
        const write = file.write.bind(file);
        file.write = (buffers, position) => {
          writes.push(Buffer.concat(buffers).length);
          return write(buffers, position);
        };
        return file;
      };
      const blocks = Array.from({ length: 20 }, (_, i) => i);
      const placed = await Promise.all(blocks.map((block) => wal.append([{ block, data: data(block) }])));
      assert.deepEqual(writes, [headerBytes, slot, 19 * slot]);
      assert.deepEqual(
        placed.map(([place]) => place?.position),
        blocks.map((block) => at(block)),
      );
    });
  });

  it("of 32 MiB are whole, also where a segment is smaller", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open({ segmentBytes: 1024 * 1024 });
      const bytes = Buffer.alloc(32 * 1024 * 1024);
      for (let block = 0; block < 8192; block += 1) bytes.writeUInt32LE(block, block * 4096);
      const [place] = await wal.append([{ block: 5, data: bytes }]);
      await wal.close();
      const reopened = await scene.open();
      assert.deepEqual(scene.replayed, [
        { block: 5, count: 8192, segment: 1, position: headerBytes, zeroes: false },
      ]);
      const found = await reopened.read(1, (place?.position ?? 0) + 8191 * slot, 1);
      assert.equal(Buffer.from(found[0] as Uint8Array).readUInt32LE(), 8191);
    });
  });

  it("and all else are refused after the end, and what is under way ends", async () => {
    const scene = new Scene();
    await scene.run(async () => {
      const wal = await scene.open();
      const appended = wal.append([{ block: 1, data: data(1) }]);
      await wal.close();
      assert.equal((await appended).length, 1);
      assert.throws(() => wal.append([{ block: 1, data: data(1) }]), { code: "VOLUME_CLOSED" });
      assert.throws(() => wal.read(1, headerBytes, 1), { code: "VOLUME_CLOSED" });
      await assert.rejects(wal.sync(), { code: "VOLUME_CLOSED" });
      await scene.open();
      assert.deepEqual(scene.blocks, [1]);
    });
  });
});
