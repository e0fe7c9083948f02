import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Device, Scene } from "./testing/scene.ts";
import type { VerbOptions } from "./types.ts";

type Verb = (device: Device, options?: VerbOptions) => Promise<unknown>;

const grownBytes = 2 ** 21;
const limits = { iops: 100_000, bytesPerSecond: null };

/** Each with how to see that it was done. */
const verbs: Record<string, { verb: Verb; isDone: (device: Device) => boolean }> = {
  resize: {
    verb: ({ volume }, options) => volume.resize(grownBytes, options),
    isDone: ({ volume }) => volume.sizeBytes === grownBytes,
  },
  change: {
    verb: ({ volume }, options) => volume.change({ limits }, options),
    isDone: ({ volume }) => volume.info().limits.iops === limits.iops,
  },
  snapshot: {
    verb: ({ volume }, options) => volume.snapshot(options),
    isDone: ({ volume }) => volume.info().snapshots.length > 1,
  },
  removeSnapshot: {
    verb: async ({ volume }, options) => {
      for (const { id } of volume.info().snapshots) await volume.removeSnapshot(id, options);
    },
    isDone: ({ volume }) => volume.info().snapshots.length === 0,
  },
  collectGarbage: {
    verb: ({ volume }, options) => volume.collectGarbage(options),
    isDone: () => true,
  },
};

const reason = new Error("somebody has lost patience");

function isGivenUp(error: unknown): true {
  const { code, message, cause } = error as Error & { code?: string };
  assert.equal(code, "VOLUME_GIVEN_UP");
  assert.match(message, /store does not answer/);
  assert.equal(cause, reason);
  return true;
}

/** Until the volume says that its store does not answer. */
async function toldOf(scene: Scene, { volume }: Device): Promise<void> {
  while (volume.statistics().problem === null) await scene.sleep(1000);
}

describe("a verb whose store is gone", () => {
  for (const [name, { verb, isDone }] of Object.entries(verbs)) {
    it(`${name} is given up at once, and works when the store is back`, () =>
      Scene.play(async (scene) => {
        const device = await scene.created();
        await device.write(0, "abc");
        await device.volume.snapshot({ name: "first" });
        await device.write(1, "BCD");
        await device.flush();
        scene.server.isAbsent = true;
        const patience = new AbortController();
        const given = assert.rejects(verb(device, { signal: patience.signal }), isGivenUp);
        await toldOf(scene, device);
        patience.abort(reason);
        await given; // while the store is gone
        assert.equal(await device.read(0, 5), "aBCD.");
        scene.server.isAbsent = false;
        await device.drain();
        await verb(device);
        assert.ok(isDone(device));
        assert.equal(device.volume.statistics().problem, null);
        await device.close();
        assert.deepEqual((await scene.store.check(device.id)).findings, []);
        const again = await scene.open(device.id);
        assert.ok(isDone(again));
        assert.equal(await again.read(0, 5), "aBCD.");
      }));
  }

  it("does nothing later where it was given up before its turn", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      scene.server.isAbsent = true;
      const first = device.volume.snapshot({ name: "first" });
      const patience = new AbortController();
      const second = device.volume.snapshot({ name: "second", signal: patience.signal });
      const given = assert.rejects(second, /it has not begun/);
      await toldOf(scene, device);
      patience.abort(reason);
      await given;
      scene.server.isAbsent = false;
      await first;
      await device.drain();
      const names = () => device.volume.info().snapshots.map((snapshot) => snapshot.name);
      assert.deepEqual(names(), ["first"]);
      await device.volume.snapshot({ name: "second" });
      assert.deepEqual(names(), ["first", "second"]);
    }));

  it("leaves a volume that can be closed without the store, and opened again", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "abc");
      await device.flush();
      scene.server.isAbsent = true;
      const patience = new AbortController();
      const given = assert.rejects(device.volume.snapshot({ signal: patience.signal }), isGivenUp);
      await toldOf(scene, device);
      patience.abort(reason);
      await given;
      await device.close({ drain: false });
      scene.server.isAbsent = false;
      const again = await scene.open(device.id);
      assert.equal(await again.read(0, 4), "abc.");
      await again.volume.snapshot();
      await again.volume.collectGarbage();
      await again.close();
      assert.deepEqual((await scene.store.check(device.id)).findings, []);
    }));
});
