import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { snapshotKey } from "./paths.ts";
import { blockBytes, type Device, Scene } from "./testing/scene.ts";

const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;

/** The volume's blocks as it was kept under each name. */
async function kept(scene: Scene, device: Device): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const { id: snapshot, name } of device.volume.info().snapshots) {
    const { id } = await scene.store.clone({ volume: device.id, snapshot }, {});
    const clone = await scene.open(id);
    found[name ?? snapshot] = await clone.read(0, 8);
    await clone.close();
    await scene.store.remove(id);
  }
  return found;
}

async function take(device: Device, name: string): Promise<string> {
  return (await device.volume.snapshot({ name })).id;
}

for (const [what, settings] of [
  ["a volume", {}],
  ["a compressed and encrypted one", { compression: "zstd", encrypted: true, inlineBytes: 0 }],
] as const) {
  describe(`${what} that is set back`, () => {
    it("is what it was, and all snapshots stay what they were, wherever it is set to next", () =>
      Scene.play(async (scene) => {
        const device = await scene.created();
        await device.write(0, "aaaaaaaa");
        const one = await take(device, "one");
        await device.write(0, "bbbb");
        const two = await take(device, "two");
        await device.write(0, "c");
        await device.volume.trim?.(6 * blockBytes, 2 * blockBytes, { fua: false });
        await device.volume.revert(one);
        assert.equal(await device.read(0, 9), "aaaaaaaa.");
        await device.write(7, "d");
        const three = await take(device, "three");
        await device.volume.revert(two);
        assert.equal(await device.read(0, 9), "bbbbaaaa.");
        await device.volume.collectGarbage();
        await device.volume.revert(three);
        assert.equal(await device.read(0, 9), "aaaaaaad.");
        await device.volume.collectGarbage();
        const all = { one: "aaaaaaaa", two: "bbbbaaaa", three: "aaaaaaad" };
        assert.deepEqual(await kept(scene, device), all);
        for (const id of [one, three, two]) await device.volume.removeSnapshot(id);
        assert.equal(await device.read(0, 9), "aaaaaaad.");
        await device.volume.trim?.(0, 256 * blockBytes, { fua: false });
        await device.volume.collectGarbage();
        assert.equal(device.volume.statistics().storedBytes, 0);
        await device.close();
        await scene.server.settle();
        assert.deepEqual((await scene.store.check(device.id)).findings, []);
      }, settings));

    it("gives up what its log holds, also for a host that loses its power then", () =>
      Scene.play(async (scene) => {
        const device = await scene.created();
        await device.write(0, "aaaa");
        const { id } = await device.volume.snapshot();
        await device.write(0, "bbbb");
        await device.flush();
        await device.volume.revert(id);
        assert.equal(await device.read(0, 5), "aaaa.");
        await device.write(3, "c");
        await device.flush();
        scene.restart("power");
        const again = await scene.open(device.id);
        assert.equal(await again.read(0, 5), "aaac.");
        await again.close();
        scene.restart("disk");
        assert.equal(await (await scene.open(device.id)).read(0, 5), "aaac.");
      }, settings));
  });
}

describe("a volume that is set back", () => {
  it("has writes wait meanwhile, which come after it, and has no instant to be marked", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaaa");
      const { id } = await device.volume.snapshot();
      await device.write(0, "bbbb");
      scene.server.isAbsent = true;
      const reverting = device.volume.revert(id);
      await scene.sleep(10_000);
      const writing = device.write(1, "c");
      await scene.sleep(10_000);
      assert.equal(await device.read(0, 4), "bbbb");
      assert.throws(() => device.volume.mark(), code("VOLUME_REVERTING"));
      scene.server.isAbsent = false;
      await Promise.all([reverting, writing]);
      assert.equal(await device.read(0, 4), "acaa");
    }));

  it("keeps its size: what it has grown by is zeroes", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      const { id } = await device.volume.snapshot();
      const { sizeBytes } = device.volume;
      await device.volume.resize(2 * sizeBytes);
      await device.write(sizeBytes / blockBytes, "x");
      await device.volume.revert(id);
      assert.equal(device.volume.sizeBytes, 2 * sizeBytes);
      assert.equal(await device.read(sizeBytes / blockBytes, 1), ".");
    }));

  it("finds its source's blocks again, of which a clone had none left", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaaa");
      const { id: snapshot } = await device.volume.snapshot();
      const { id } = await scene.store.clone({ volume: device.id, snapshot }, {});
      const clone = await scene.open(id);
      const first = await take(clone, "first");
      await clone.write(0, "bbbb");
      await clone.volume.collectGarbage();
      const second = await take(clone, "second");
      await clone.volume.revert(first);
      assert.equal(await clone.read(0, 5), "aaaa.");
      await clone.volume.collectGarbage();
      await clone.volume.revert(second);
      assert.equal(await clone.read(0, 5), "bbbb.");
      await clone.close();
      assert.deepEqual((await scene.store.check(id)).findings, []);
      assert.equal(await device.read(0, 5), "aaaa.");
    }));

  it("stores what was marked before it", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaaa");
      const { id } = await device.volume.snapshot({ name: "one" });
      await device.write(0, "bbbb");
      const mark = device.volume.mark({ name: "two" });
      await device.write(0, "c");
      await device.volume.revert(id);
      await mark.complete();
      assert.deepEqual(await kept(scene, device), { one: "aaaa....", two: "bbbb...." });
      assert.equal(await device.read(0, 5), "aaaa.");
    }));

  it("is left as it is where the snapshot is not there, or damaged", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "aaaa");
      const { id } = await device.volume.snapshot();
      await device.write(0, "bbbb");
      await assert.rejects(device.volume.revert("snap-00000000000000000"), code("SNAPSHOT_NOT_FOUND"));
      await scene.server.memory.put(snapshotKey(device.id, id), Buffer.from("{}"));
      await assert.rejects(device.volume.revert(id), code("VOLUME_DAMAGED"));
      await device.write(4, "c");
      assert.equal(await device.read(0, 6), "bbbbc.");
      await device.drain();
    }));
});
