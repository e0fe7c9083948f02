import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { VolumeStore } from "../types.ts";
import { damageBehaviour } from "./damage-behaviour.ts";
import { hostsBehaviour } from "./hosts-behaviour.ts";
import { type Candidate, code, Place, plain, read, text, write } from "./place.ts";

const signal = new AbortController().signal;
const zeroing = { fua: false, noHole: false, fast: false };
const sizeBytes = 2 ** 20;

/** What a volume does in every store. The bucket is shared with nothing else. */
export function volumeBehaviour(where: string, make: () => Promise<Candidate>): void {
  describe(`volumes in ${where}`, () => {
    let place: Place;
    let volumes: VolumeStore;
    before(async () => {
      place = await Place.open(make);
      volumes = place.start();
    });
    after(() => place?.[Symbol.asyncDispose]());

    for (const [what, settings] of [
      ["a volume", {}],
      ["a compressed and encrypted one", { compression: "zstd", encrypted: true, durability: "remote" }],
    ] as const) {
      describe(what, () => {
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
          await using third = await place.start().open(id);
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
          const left = await place.store.list({ prefix: `${id}/` });
          assert.deepEqual(left.objects, []);
        });
      });
    }

    hostsBehaviour(() => place);
    damageBehaviour(() => place);
  });
}
