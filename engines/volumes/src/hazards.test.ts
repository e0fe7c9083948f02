import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { blockBytes, Device, Scene } from "./testing/scene.ts";

// What other block devices on object storage got wrong, each once.

const code = (expected: string) => (error: unknown) =>
  (error as { code?: string; errno?: string }).code === expected ||
  (error as { errno?: string }).errno === expected;

describe("hazards of a write-ahead log", () => {
  it("keeps flushed data of a run whose first block the store has already", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(10, "a");
      await device.drain();
      await device.write(11, "b");
      await device.write(9, "c");
      await device.flush();
      scene.restart("power");
      const again = await scene.open(device.id);
      assert.equal(await again.read(8, 5), ".cab.");
    }));

  it("keeps what was flushed when only some of a run was overwritten after a drain", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "abcdefgh");
      await device.flush();
      await device.drain();
      await device.write(2, "CDE");
      await device.write(7, "HI");
      await device.flush();
      scene.restart("power");
      assert.equal(await (await scene.open(device.id)).read(0, 10), "abCDEfgHI.");
    }));

  it("loses no update of a part of a block", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      for (let round = 0; round < 200; round += 1) {
        const block = round % 3;
        const halves = [
          Buffer.alloc(1000, round + 1),
          Buffer.alloc(1000, round + 2),
          Buffer.alloc(500, round + 3),
        ];
        await Promise.all(halves.map((half, at) => device.writeAt(block * blockBytes + at * 1000, half)));
        if (round % 10 === 0) await device.drain();
        const seen = await device.readAt(block * blockBytes, 2500);
        assert.ok(seen.equals(Buffer.concat(halves)), `round ${round}`);
      }
    }));

  it("puts again what could not be put, and drops no segment before", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      scene.server.faults = { ...scene.server.faults, lostRequest: 0.7 };
      for (let block = 0; block < 64; block += 1) await device.write(block, "x");
      await device.drain();
      scene.server.faults = { ...scene.server.faults, lostRequest: 0 };
      scene.restart("disk");
      const again = await scene.open(device.id, { takeOver: true });
      assert.equal(await again.read(0, 64), "x".repeat(64));
    }));

  it("keeps the log when it is closed and the store is gone", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(5, "abc");
      await device.flush();
      scene.server.isAbsent = true;
      const abort = new AbortController();
      const closing = device.close({ signal: abort.signal });
      await scene.sleep(60_000);
      abort.abort();
      await closing.catch(() => undefined);
      scene.restart("power");
      scene.server.isAbsent = false;
      assert.equal(await (await scene.open(device.id)).read(5, 3), "abc");
    }));

  it("keeps the log when it is closed without a drain", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(5, "abc");
      await device.close({ drain: false });
      const again = await scene.open(device.id);
      assert.equal(await again.read(5, 3), "abc");
      await again.close();
      assert.ok(scene.walBytes() <= blockBytes, "after a drain nothing is left of it");
    }));

  it("refuses a write with ENOSPC while the disk is full, and goes on when it is not", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "ab");
      await device.flush();
      scene.host.files.fullProbability = 1;
      await assert.rejects(async () => device.write(1, "xy"), code("ENOSPC"));
      await assert.rejects(async () => device.write(7, "z"), code("ENOSPC"));
      scene.host.files.fullProbability = 0;
      assert.equal(await device.read(0, 1), "a");
      await device.write(1, "cde");
      await device.write(7, "f");
      await device.flush();
      assert.equal(await device.read(0, 8), "acde...f");
      scene.restart("power");
      assert.equal(await (await scene.open(device.id)).read(0, 8), "acde...f");
    }));

  it("is bounded while the volume is written for long", () =>
    Scene.play(async (scene) => {
      const { walLimitBytes, segmentBytes } = scene.world.settings;
      const device = await scene.created();
      let most = 0;
      for (let block = 0; block < 2000; block += 1) {
        await device.write((block * 7) % 250, "x");
        most = Math.max(most, scene.walBytes());
      }
      assert.ok(most <= walLimitBytes + 2 * segmentBytes, `${most} bytes of WAL`);
      assert.ok(most >= segmentBytes, "and it is used");
    }));
});

describe("hazards of two owners", () => {
  it("opens a volume once", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await assert.rejects(scene.open(device.id), code("VOLUME_OPEN"));
      const { store } = scene.other();
      await assert.rejects(store.open(device.id), code("VOLUME_IN_USE"));
      await device.write(0, "a");
      await device.close();
      const there = await store.open(device.id);
      await assert.rejects(scene.open(device.id), code("VOLUME_IN_USE"));
      await there.close();
    }));

  it("opens it once, however many ask at the same time", () =>
    Scene.play(async (scene) => {
      const id = await scene.create();
      const { store } = scene.other();
      const asked = [scene.store.open(id), scene.store.open(id), store.open(id), store.open(id)];
      const outcomes = await Promise.allSettled(asked);
      assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 1);
    }));

  it("lets no swap of an earlier owner happen, however late it lands", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "old");
      const held = Promise.withResolvers<void>();
      let isHeld = false;
      scene.server.onRequest = async (verb, key, host) => {
        if (host !== scene.host.schedule || verb !== "put" || !key.endsWith("config.json")) return;
        isHeld = true;
        await held.promise;
      };
      const draining = device.drain().then(
        () => "drained",
        () => "refused",
      );
      while (!isHeld) await scene.world.shared.turn();
      const { store } = scene.other();
      const theirs = await store.open(device.id, { takeOver: true });
      await theirs.write(0, Buffer.alloc(blockBytes, "n"), { fua: true });
      await theirs.drain();
      held.resolve();
      assert.equal(await draining, "refused");
      await assert.rejects(async () => device.flush(), code("VOLUME_FENCED"));
      await assert.rejects(async () => device.write(1, "x"), code("VOLUME_FENCED"));
      await theirs.close();
      scene.server.onRequest = undefined;
      scene.restart("process");
      assert.equal(await (await scene.open(device.id)).read(0, 3), "n..");
    }));

  it("takes no map for damaged whose objects a busy owner replaced while it was read", () =>
    Scene.play(
      async (scene) => {
        const device = await scene.created();
        await device.write(0, "old");
        await device.drain();
        const { store, host } = scene.other();
        let isBusy = false;
        scene.server.onRequest = async (verb, key, from) => {
          if (isBusy || from !== host.schedule || verb !== "get" || key.endsWith("config.json")) return;
          isBusy = true;
          while ((await scene.server.keys()).includes(key)) {
            await device.write(0, "new", true);
            await device.drain();
            await device.volume.collectGarbage();
          }
        };
        const theirs = new Device(await store.open(device.id, { takeOver: true }));
        assert.ok(isBusy, "the map is an object of its own");
        assert.equal(await theirs.read(0, 4), "new.");
        await assert.rejects(() => device.drain(), code("VOLUME_FENCED"));
      },
      { inlineBytes: 0 },
    ));

  it("keeps no object of an earlier owner's that lands late in the place of one of its own", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      const held = Promise.withResolvers<void>();
      const late: string[] = [];
      scene.server.onRequest = async (verb, key, host) => {
        if (host !== scene.host.schedule || verb !== "put") return;
        late.push(key);
        await held.promise;
      };
      await device.write(0, "old");
      device.drain().catch(() => undefined);
      while (late.length === 0) await scene.world.shared.turn();
      const { store } = scene.other();
      const theirs = await store.open(device.id, { takeOver: true });
      await theirs.write(0, Buffer.alloc(3 * blockBytes, "n"), { fua: true });
      await theirs.drain();
      const kept = new Map<string, Buffer>();
      for (const key of await scene.server.keys()) kept.set(key, await scene.server.bytes(key));
      held.resolve();
      await scene.sleep(1000);
      for (const [key, bytes] of kept) assert.ok(bytes.equals(await scene.server.bytes(key)), key);
      await theirs.collectGarbage();
      await theirs.close();
      assert.deepEqual((await store.check(device.id)).findings, []);
    }));
});

describe("hazards of a store that fails", () => {
  it("takes no 503 for a full disk", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      scene.server.isAbsent = true;
      for (let block = 0; block < 40; block += 1) await device.write(block, "x");
      await device.flush();
      await scene.sleep(30_000);
      assert.ok(device.volume.statistics().problem !== null, "it says that the store fails");
      await device.write(41, "y");
      scene.server.isAbsent = false;
      await device.drain();
      assert.equal(device.volume.statistics().problem, null);
      assert.equal(await device.read(39, 3), "x.y");
    }));

  it("waits ten minutes for a store that is gone, and loses nothing", () =>
    Scene.play(async (scene) => {
      const { walLimitBytes, segmentBytes } = scene.world.settings;
      const device = await scene.created();
      scene.server.isAbsent = true;
      let answered = 0;
      const writers = Array.from({ length: 4 }, async (_, writer) => {
        for (let block = writer; block < 240; block += 4) {
          await device.write(block, "x");
          answered += 1;
        }
      });
      // Simulated time may pass while others still have something to do.
      for (let minutes = 0; minutes < 10 || (answered <= 60 && minutes < 1000); minutes += 1) {
        await scene.sleep(60_000);
      }
      assert.ok(answered > 60 && answered < 240, `${answered} writes were answered`);
      assert.ok(scene.walBytes() <= walLimitBytes + segmentBytes);
      scene.server.isAbsent = false;
      await Promise.all(writers);
      assert.equal(await device.read(0, 240), "x".repeat(240));
      await device.drain();
      scene.restart("disk");
      const again = await scene.open(device.id, { takeOver: true });
      assert.equal(await again.read(0, 241), `${"x".repeat(240)}.`);
    }));

  it("fills nothing up with zeroes where less of a chunk comes than was asked for", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "abcdefghijklmnopqrst");
      await device.drain();
      scene.server.faults = { ...scene.server.faults, shortRead: 0.5 };
      for (let tries = 0; tries < 20; tries += 1) {
        const read = device.read(0, 20).catch(() => undefined);
        const seen = await read;
        if (seen !== undefined) assert.equal(seen, "abcdefghijklmnopqrst");
      }
      scene.server.faults = { ...scene.server.faults, shortRead: 0 };
      assert.equal(await device.read(0, 20), "abcdefghijklmnopqrst");
    }));

  it("never uses a chunk's number again after a drain that failed", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      scene.server.faults = { ...scene.server.faults, lostAnswer: 0.3, late: 0.3, lostRequest: 0.2 };
      for (let round = 0; round < 12; round += 1) {
        await device.write(round, String.fromCharCode(65 + round));
        await device.write(round % 5, "ab");
        const abort = new AbortController();
        const draining = device.volume.drain({ signal: abort.signal }).catch(() => undefined);
        if (round % 3 === 0) abort.abort();
        await draining;
      }
      assert.equal(scene.server.violation, undefined);
    }));
});
