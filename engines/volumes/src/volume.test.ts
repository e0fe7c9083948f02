import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { ReadResult } from "@skep/nbd";
import { EmbeddedStore, MemoryStore, type ObjectStore } from "@skep/objects";
import { Random } from "@skep/objects/simulation";
import { blockBytes, type OpenVolume, type VolumeStore } from "./types.ts";
import { openVolumes, type VolumesOptions } from "./volumes.ts";

const signal = new AbortController().signal;
const plain = { fua: false };
const zeroing = { fua: false, noHole: false, fast: false };
const keys = {
  wrap: (key: Uint8Array, name: string) => `${name} ${Buffer.from(key).toString("hex")}`,
  unwrap: (wrapped: string, name: string) =>
    wrapped.startsWith(`${name} `) ? Buffer.from(wrapped.slice(name.length + 1), "hex") : undefined,
};
const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;

function bytesOf(result: ReadResult): Buffer {
  const parts = result instanceof Uint8Array ? [result] : result;
  return Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : Buffer.alloc(part.zeroes))));
}

async function read(volume: OpenVolume, offset: number, length: number): Promise<Buffer> {
  return bytesOf(await volume.read(offset, length, { signal }));
}

async function write(volume: OpenVolume, offset: number, fill: string, length = blockBytes): Promise<void> {
  await volume.write(offset, Buffer.alloc(length, fill), plain);
}

const text = (length: number, fill: string) => Buffer.alloc(length, fill).toString();

/** A store of some kind, and this host's directory; both are gone at the end. */
class Bench implements AsyncDisposable {
  readonly directory: string;
  readonly store: ObjectStore;
  readonly #end: () => Promise<void>;

  private constructor(directory: string, store: ObjectStore, end: () => Promise<void>) {
    this.directory = directory;
    this.store = store;
    this.#end = end;
  }

  static async open(kind: "memory" | "embedded"): Promise<Bench> {
    const directory = await mkdtemp("/tmp/skep-vol-");
    if (kind === "memory") return new Bench(directory, new MemoryStore(), async () => undefined);
    const store = await EmbeddedStore.open({ directory: join(directory, "objects") });
    await store.createBucket("volumes", { owner: "test" });
    return new Bench(directory, store.objects("volumes"), () => store[Symbol.asyncDispose]());
  }

  /** The volumes as a process on this host has them. */
  start(options: Partial<VolumesOptions> = {}): VolumeStore {
    const directory = join(this.directory, "volumes");
    return openVolumes({ store: this.store, directory, host: "here", keys, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end();
    await rm(this.directory, { recursive: true, force: true });
  }
}

for (const kind of ["memory", "embedded"] as const) {
  for (const settings of [
    {},
    { compression: "zstd" as const, encrypted: true, durability: "remote" as const },
  ]) {
    describe(`a volume in the ${kind} store${"encrypted" in settings ? ", compressed and encrypted" : ""}`, async () => {
      const bench = await Bench.open(kind);
      after(() => bench[Symbol.asyncDispose]());
      const volumes = bench.start();
      const sizeBytes = 2 ** 20;

      it("reads as zeroes, then as it was written, in whole blocks and parts of them", async () => {
        const { id } = await volumes.create({ sizeBytes, ...settings });
        await using volume = await volumes.open(id);
        assert.ok((await read(volume, 0, sizeBytes)).equals(Buffer.alloc(sizeBytes)));
        await write(volume, 4096, "a", 8192);
        await write(volume, 5000, "b", 100);
        await write(volume, 8000, "c", 400);
        const expected = Buffer.alloc(sizeBytes);
        expected.fill("a", 4096, 12288).fill("b", 5000, 5100).fill("c", 8000, 8400);
        assert.ok((await read(volume, 0, sizeBytes)).equals(expected));
        assert.ok((await read(volume, 5050, 3000)).equals(expected.subarray(5050, 8050)));
        await volume.flush();
        await volume.drain();
        assert.ok((await read(volume, 5050, 3000)).equals(expected.subarray(5050, 8050)));
        await write(volume, 5001, "d", 1);
        expected.fill("d", 5001, 5002);
        assert.ok((await read(volume, 0, sizeBytes)).equals(expected));
      });

      it("frees what is trimmed or zeroed, and says where its holes are", async () => {
        const { id } = await volumes.create({ sizeBytes, ...settings });
        await using volume = await volumes.open(id);
        await write(volume, 0, "x", 65536);
        await volume.drain();
        await volume.trim?.(4096, 8192, plain);
        await volume.writeZeroes?.(20000, 10000, zeroing);
        const seen = await read(volume, 0, 65536);
        const expected = Buffer.alloc(65536, "x").fill(0, 4096, 12288).fill(0, 20000, 30000);
        assert.ok(seen.equals(expected));
        const runs = (await volume.blockStatus?.(0, 65536, { maxExtents: 10, signal }))?.map(
          ({ length, hole }) => [length, hole],
        );
        assert.deepEqual(runs, [
          [4096, false],
          [8192, true],
          [8192, false],
          [8192, true],
          [36864, false],
        ]);
        await volume.drain();
        assert.ok((await read(volume, 0, 65536)).equals(expected));
        await volume.trim?.(0, sizeBytes, plain);
        await volume.collectGarbage();
        assert.equal(volume.statistics().mappedBytes, 0);
        assert.equal(volume.statistics().storedBytes, 0);
      });

      it("has everything again after a close, and after the process has died", async () => {
        const { id } = await volumes.create({ sizeBytes, ...settings });
        const first = await volumes.open(id);
        await write(first, 0, "a");
        await first.close();
        const second = await volumes.open(id);
        await write(second, 4096, "b");
        await second.writeZeroes?.(0, 10, zeroing);
        await second.close({ drain: false });
        await using third = await bench.start().open(id);
        const expected = Buffer.alloc(8192, "a").fill(0, 0, 10).fill("b", 4096);
        assert.ok((await read(third, 0, 8192)).equals(expected));
        assert.equal(third.info().epoch, 3);
      });

      it("grows while it is open, and never shrinks", async () => {
        const { id } = await volumes.create({ sizeBytes, ...settings });
        const volume = await volumes.open(id);
        await write(volume, sizeBytes - 4096, "e");
        await volume.resize(2 * sizeBytes);
        assert.equal(volume.sizeBytes, 2 * sizeBytes);
        const seen = await read(volume, sizeBytes - 4096, 8192);
        assert.ok(seen.equals(Buffer.alloc(8192, "e").fill(0, 4096)));
        await assert.rejects(volume.resize(sizeBytes), code("VOLUME_SHRINK"));
        await assert.rejects(volume.resize(2 * sizeBytes + 1), code("VOLUME_SIZE"));
        await volume.close();
        assert.equal((await volumes.info(id)).sizeBytes, 2 * sizeBytes);
      });

      it("is kept by snapshots as it was, and cloned from them, and clones of clones", async () => {
        const { id } = await volumes.create({ sizeBytes, ...settings });
        const volume = await volumes.open(id);
        await write(volume, 0, "a", 40960);
        const one = await volume.snapshot({ name: "one" });
        await assert.rejects(volume.snapshot({ name: "one" }), code("SNAPSHOT_EXISTS"));
        await write(volume, 4096, "b");
        await volume.collectGarbage();
        const source = { volume: id, snapshot: one.id };
        const clone = await volumes.clone(source, { sizeBytes: 2 * sizeBytes });
        assert.deepEqual(clone.source, source);
        const copy = await volumes.open(clone.id);
        assert.equal((await read(copy, 0, 40960)).toString(), text(40960, "a"));
        await write(copy, 8192, "c");
        const two = await copy.snapshot();
        await write(copy, 8192, "d");
        const third = await volumes.clone({ volume: clone.id, snapshot: two.id }, {});
        const grandchild = await volumes.open(third.id);
        const expected = text(8192, "a") + text(4096, "c") + text(28672, "a");
        assert.equal((await read(grandchild, 0, 40960)).toString(), expected);
        await assert.rejects(volume.removeSnapshot(one.id), code("SNAPSHOT_NEEDED"));
        await assert.rejects(copy.removeSnapshot(two.id), code("SNAPSHOT_NEEDED"));
        await grandchild.close();
        await copy.close();
        await assert.rejects(volumes.remove(clone.id, { snapshots: true }), code("VOLUME_NEEDED"));
        assert.deepEqual((await volumes.check(third.id)).findings, []);
        await volumes.remove(third.id);
        await assert.rejects(volumes.remove(clone.id), code("VOLUME_HAS_SNAPSHOTS"));
        await volumes.remove(clone.id, { snapshots: true });
        await volume.removeSnapshot(one.id);
        await assert.rejects(volume.removeSnapshot(one.id), code("SNAPSHOT_NOT_FOUND"));
        await assert.rejects(volumes.clone(source, {}), code("SNAPSHOT_NOT_FOUND"));
        assert.equal((await read(volume, 0, 8192)).toString(), text(4096, "a") + text(4096, "b"));
        await volume.close();
        assert.deepEqual((await volumes.check(id)).findings, []);
        await volumes.remove(id);
        await assert.rejects(volumes.info(id), code("VOLUME_NOT_FOUND"));
        const left = await bench.store.list({ prefix: `${id}/` });
        assert.deepEqual(left.objects, []);
      });
    });
  }
}

describe("a volume on a host", async () => {
  const bench = await Bench.open("memory");
  after(() => bench[Symbol.asyncDispose]());
  const sizeBytes = 2 ** 20;

  it("is open once: in a process, on a host, among hosts", async () => {
    const volumes = bench.start();
    const { id } = await volumes.create({ sizeBytes });
    await using volume = await volumes.open(id);
    await assert.rejects(volumes.open(id), code("VOLUME_OPEN"));
    await assert.rejects(bench.start().open(id), code("VOLUME_OPEN"));
    await assert.rejects(volumes.remove(id), code("VOLUME_OPEN"));
    const elsewhere = bench.start({ directory: join(bench.directory, "elsewhere"), host: "elsewhere" });
    await assert.rejects(elsewhere.open(id), (error) => {
      return code("VOLUME_IN_USE")(error) && String(error).includes('"here"');
    });
    await write(volume, 0, "a");
    const taken = await elsewhere.open(id, { takeOver: true });
    await write(volume, 0, "b");
    await assert.rejects(volume.drain(), code("VOLUME_FENCED"));
    assert.throws(() => volume.write(0, Buffer.alloc(4096), plain), code("VOLUME_FENCED"));
    assert.equal(volume.statistics().fenced, true);
    assert.ok((await read(taken, 0, 4096)).equals(Buffer.alloc(4096)));
    await taken.close();
  });

  it("waits while its store fails, says so, and loses nothing", async () => {
    let isGone = false;
    const gone = () => Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
    const store = new Proxy(bench.store, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== "function") return value;
        return (...given: unknown[]) => (isGone ? Promise.reject(gone()) : value.apply(target, given));
      },
    });
    const clock = {
      now: () => Date.now(),
      sleep: () => new Promise<void>((resolve) => setImmediate(resolve)),
    };
    const volumes = bench.start({ store, clock });
    const { id } = await volumes.create({ sizeBytes });
    const volume = await volumes.open(id);
    isGone = true;
    await write(volume, 0, "a", 65536);
    const draining = volume.drain();
    while (volume.statistics().problem === null) await clock.sleep();
    assert.match(volume.statistics().problem?.message ?? "", /ECONNREFUSED/);
    assert.equal((await read(volume, 0, 4096)).toString(), text(4096, "a"));
    isGone = false;
    await draining;
    assert.equal(volume.statistics().problem, null);
    await volume.close();
  });

  it("holds its limits, in order, and lets them change while it is open", async () => {
    let now = 0;
    const clock = {
      now: () => now,
      sleep: async (ms: number) => {
        now += ms;
      },
    };
    const volumes = bench.start({ clock, drainAfterMs: 0 });
    const { id } = await volumes.create({ sizeBytes, limits: { iops: 100, bytesPerSecond: null } });
    await using volume = await volumes.open(id);
    const took = async (count: number, length: number) => {
      const began = now;
      const ended: number[] = [];
      const all = Array.from({ length: count }, async (_, i) => {
        await read(volume, 0, length);
        ended.push(i);
      });
      await Promise.all(all);
      assert.deepEqual(
        ended,
        [...ended].sort((one, other) => one - other),
      );
      return now - began;
    };
    const slow = await took(100, 4096);
    assert.ok(slow >= 850 && slow <= 1050, `100 reads at 100 a second took ${slow} ms`);
    await volume.change({ limits: { iops: null, bytesPerSecond: 4096 * 1000 } });
    const fast = await took(500, 4096);
    assert.ok(fast >= 350 && fast <= 550, `500 blocks at 1000 a second took ${fast} ms`);
    await volume.change({ limits: { iops: null, bytesPerSecond: null } });
    assert.equal(await took(1000, 4096), 0);
  });

  it("writes at most twice of what it is given, and stores little more than is live", async () => {
    const volumes = bench.start({ drainBytes: 2 ** 20 });
    const blocks = 4096;
    const { id } = await volumes.create({ sizeBytes: blocks * blockBytes, objBlockBytes: 256 * 1024 });
    const volume = await volumes.open(id);
    const data = Buffer.alloc(blockBytes, 5);
    const rounds = 6 * blocks;
    const random = new Random(1);
    let most = 0;
    for (let i = 0; i < rounds; i += 1) {
      await volume.write(random.below(blocks) * blockBytes, data, plain);
      if (i % 1024 === 0) {
        await volume.drain();
        most = Math.max(most, volume.statistics().storedBytes);
      }
    }
    await volume.drain();
    const { bytesToStore } = volume.statistics();
    assert.ok(bytesToStore < 2 * rounds * blockBytes, `${bytesToStore} for ${rounds * blockBytes}`);
    assert.ok(most < 2.5 * blocks * blockBytes, `${most} stored of ${blocks * blockBytes}`);
    await volume.close();
  });
});
