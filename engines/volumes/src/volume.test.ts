import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { EmbeddedStore, MemoryStore } from "@skep/objects";
import { Random } from "@skep/objects/simulation";
import { volumeBehaviour } from "./testing/behaviour.ts";
import { type Candidate, Place, plain, read } from "./testing/place.ts";
import { blockBytes } from "./types.ts";

async function memory(): Promise<Candidate> {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

async function embedded(): Promise<Candidate> {
  const directory = await mkdtemp("/tmp/skep-objects-");
  const whole = await EmbeddedStore.open({ directory: join(directory, "objects") });
  await whole.createBucket("volumes", { owner: "test" });
  return {
    store: whole.objects("volumes"),
    [Symbol.asyncDispose]: async () => {
      await whole[Symbol.asyncDispose]();
      await rm(directory, { recursive: true });
    },
  };
}

volumeBehaviour("a MemoryStore", memory);
volumeBehaviour("an EmbeddedStore", embedded);

describe("a volume on a host", () => {
  it("holds its limits, in order, and lets them change while it is open", async () => {
    await using place = await Place.open(memory);
    let now = 0;
    const clock = {
      now: () => now,
      sleep: async (ms: number) => {
        now += ms;
      },
    };
    const volumes = place.start("here", { clock, drainAfterMs: 0 });
    const { id } = await volumes.create({ sizeBytes: 2 ** 20, limits: { iops: 100, bytesPerSecond: null } });
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
    await using place = await Place.open(memory);
    const volumes = place.start("here", { drainBytes: 2 ** 20 });
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
