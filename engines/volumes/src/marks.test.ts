import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Device, Scene } from "./testing/scene.ts";

const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;

/** What a snapshot holds, by a clone of it. */
async function held(scene: Scene, device: Device, snapshot: string, count: number): Promise<string> {
  const { id } = await scene.store.clone({ volume: device.id, snapshot }, {});
  const clone = await scene.open(id);
  const letters = await clone.read(0, count);
  await clone.close();
  await scene.store.remove(id);
  return letters;
}

async function isClean(scene: Scene, device: Device): Promise<void> {
  await device.volume.collectGarbage();
  await device.close();
  await scene.server.settle();
  assert.deepEqual((await scene.store.check(device.id)).findings, []);
}

describe("a mark", () => {
  it("is the instant of the call, though the store is gone, and a snapshot when it is back", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaa");
      await device.drain();
      await device.write(1, "b");
      scene.server.isAbsent = true;
      const mark = device.volume.mark({ name: "now" });
      await device.write(1, "cc");
      assert.deepEqual(device.volume.info().snapshots, []);
      assert.equal(await device.read(0, 4), "acc.");
      scene.server.isAbsent = false;
      const snapshot = await mark.complete();
      assert.deepEqual([snapshot.id, snapshot.name], [mark.id, "now"]);
      assert.equal(await held(scene, device, mark.id, 4), "aba.");
      assert.equal(await device.read(0, 4), "acc.");
    }));

  it("comes between what was captured before and what was written after, also twice while a drain is under way", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaaaaaaa");
      const first = device.drain();
      for (let turns = 0; turns < 5; turns += 1) await scene.host.schedule.turn();
      await device.write(0, "b");
      const one = device.volume.mark();
      await device.write(1, "c");
      await device.volume.trim?.(4096 * 2, 4096, { fua: false });
      const two = device.volume.mark();
      await device.write(0, "dddddddd");
      const second = device.drain();
      await Promise.all([first, second, two.complete(), one.complete()]);
      assert.equal(await held(scene, device, one.id, 8), "baaaaaaa");
      assert.equal(await held(scene, device, two.id, 8), "bc.aaaaa");
      assert.equal(await device.read(0, 8), "dddddddd");
      scene.restart("disk");
      assert.equal(await (await scene.open(device.id, { takeOver: true })).read(0, 8), "dddddddd");
    }));

  it("keeps what is overwritten, compacted and collected before it is complete", () =>
    Scene.play(
      async (scene) => {
        const device = await scene.created();
        await device.write(0, "a".repeat(40));
        const mark = device.volume.mark();
        for (const letter of "bcdefgh") {
          await device.write(0, letter.repeat(40));
          await device.drain();
        }
        await device.volume.collectGarbage();
        await mark.complete();
        assert.equal(await held(scene, device, mark.id, 41), `${"a".repeat(40)}.`);
        await isClean(scene, device);
      },
      { inlineBytes: 0 },
    ));

  it("has the size of its instant", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      const mark = device.volume.mark();
      const { sizeBytes } = device.volume;
      await device.volume.resize(2 * sizeBytes);
      assert.equal((await mark.complete()).sizeBytes, sizeBytes);
    }));

  for (const when of ["before the store has it", "afterwards"] as const) {
    it(`leaves nothing where it is given up ${when}`, () =>
      Scene.play(
        async (scene) => {
          const device = await scene.created();
          await device.write(0, "aaaa");
          const mark = device.volume.mark({ name: "now" });
          if (when === "afterwards") await device.drain();
          mark.abandon();
          mark.abandon();
          await assert.rejects(mark.complete(), code("MARK_GONE"));
          await device.write(0, "bbbb");
          await device.drain();
          assert.deepEqual(device.volume.info().snapshots, []);
          await isClean(scene, device);
        },
        { inlineBytes: 0 },
      ));
  }

  it("goes with the process, and nothing of the volume does", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "ab");
      await device.drain();
      device.volume.mark();
      await device.write(1, "c");
      await device.drain();
      await device.write(2, "d");
      device.volume.mark();
      scene.restart("process");
      const again = await scene.open(device.id);
      assert.deepEqual(again.volume.info().snapshots, []);
      assert.equal(await again.read(0, 4), "acd.");
      await isClean(scene, again);
    }));

  it("takes its name at once", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      const mark = device.volume.mark({ name: "now" });
      assert.throws(() => device.volume.mark({ name: "now" }), code("SNAPSHOT_EXISTS"));
      await assert.rejects(device.volume.snapshot({ name: "now" }), code("SNAPSHOT_EXISTS"));
      await mark.complete();
      assert.throws(() => device.volume.mark({ name: "now" }), code("SNAPSHOT_EXISTS"));
      assert.throws(() => device.volume.mark({ id: "../x" }), code("VOLUME_ID"));
    }));

  it("is refused where another host has the volume by the time it is completed", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "a");
      await device.drain();
      const mark = device.volume.mark();
      const other = scene.other();
      const taken = await other.store.open(device.id, { takeOver: true });
      await assert.rejects(mark.complete(), code("VOLUME_FENCED"));
      assert.deepEqual(taken.info().snapshots, []);
    }));
});
