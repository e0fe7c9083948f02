import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Random } from "@skep/objects/simulation";
import { blockBytes, type Device, Scene } from "./testing/scene.ts";
import { codeOf } from "./testing/world.ts";

// What lies in the store is altered, is gone, or is from another version; and what keeping it costs.

/** Changes an object behind everybody's back. */
async function alter(
  scene: Scene,
  key: string,
  change: (bytes: Buffer) => Buffer | undefined,
): Promise<void> {
  const bytes = change(Buffer.from(await scene.server.bytes(key)));
  if (bytes === undefined) await scene.server.memory.delete(key);
  else await scene.server.memory.put(key, bytes);
}

function flip(at: number): (bytes: Buffer) => Buffer {
  return (bytes) => {
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    return bytes;
  };
}

async function keysOf(scene: Scene, id: string, folder: string): Promise<string[]> {
  return scene.server.keys(`${id}/${folder}/`);
}

/** A volume that was closed, with letters at the start of each of its chunks' stretches. */
async function written(scene: Scene): Promise<string> {
  const device = await scene.created();
  await device.write(0, "abcdefgh");
  await device.drain();
  await device.write(100, "ijkl");
  await device.close();
  return device.id;
}

for (const encrypted of [false, true]) {
  describe(`a damaged volume${encrypted ? ", encrypted" : ""}`, () => {
    for (const [what, change] of [
      ["a missing", () => undefined],
      ["an altered", (bytes: Buffer) => flip(bytes.length - 1)(bytes)],
      ["a cut", (bytes: Buffer) => bytes.subarray(0, bytes.length - 10)],
    ] as const) {
      it(`reads what ${what} chunk does not hold, and says what is lost`, () =>
        Scene.play(
          async (scene) => {
            const id = await written(scene);
            const [first = ""] = await keysOf(scene, id, "chunks");
            await alter(scene, first, change);
            const { findings } = await scene.store.check(id);
            const lost = findings.flatMap((one) => one.lost);
            assert.ok(lost.length > 0, "something is lost");
            assert.ok(
              lost.every(({ offset, length }) => offset + length <= 8 * blockBytes),
              "and it is the first chunk's",
            );
            assert.ok(findings.some(({ object }) => object.includes(first)));
            scene.restart("process"); // which forgets what it had in memory
            const device = await scene.open(id);
            assert.equal(await device.read(100, 5), "ijkl.");
            for (const { offset, length } of lost) await assert.rejects(device.readAt(offset, length));
            // What is written anew is whole again.
            await device.write(0, "ABCDEFGH");
            assert.equal(await device.read(0, 9), "ABCDEFGH.");
            await device.close();
          },
          { encrypted },
        ));
    }

    it("is not opened with an altered or missing map object", () =>
      Scene.play(
        async (scene) => {
          const id = await written(scene);
          const random = new Random(7);
          for (const key of await keysOf(scene, id, "map")) {
            const whole = await scene.server.bytes(key);
            const changes = [() => undefined, (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)];
            for (let i = 0; i < 40; i += 1) changes.push(flip(random.below(whole.length)) as never);
            for (const change of changes) {
              await alter(scene, key, change);
              await assert.rejects(
                async () => scene.open(id),
                (error) => codeOf(error) === "VOLUME_DAMAGED",
              );
              await scene.server.memory.put(key, whole);
            }
            await alter(scene, key, flip(20));
            const { findings } = await scene.store.check(id);
            assert.ok(findings.some(({ object, kind }) => kind === "map" && object.includes(key)));
            await scene.server.memory.put(key, whole);
          }
          const device = await scene.open(id);
          assert.equal(await device.read(0, 8), "abcdefgh");
          await device.close();
        },
        { encrypted, inlineBytes: 0 },
      ));

    it("is not opened with an altered part of the map in its manifest", () =>
      Scene.play(
        async (scene) => {
          const id = await written(scene);
          const manifest = `${id}/config.json`;
          const whole = Buffer.from(await scene.server.bytes(manifest));
          const { Map: place } = JSON.parse(whole.toString());
          assert.deepEqual(Object.keys(place.Inline), place.Deltas);
          const random = new Random(8);
          for (let i = 0; i < 80; i += 1) {
            const [key] = random.pick(Object.entries(place.Inline)) as [string, string];
            await alter(scene, manifest, (bytes) => {
              const changed = JSON.parse(bytes.toString());
              const delta = Buffer.from(changed.Map.Inline[key], "base64");
              const wrong = i % 4 === 0 ? delta.subarray(0, random.below(delta.length)) : delta;
              if (i % 4 !== 0) flip(random.below(delta.length))(wrong);
              changed.Map.Inline[key] = wrong.toString("base64");
              return Buffer.from(JSON.stringify(changed));
            });
            await assert.rejects(
              async () => scene.open(id),
              (error) => codeOf(error) === "VOLUME_DAMAGED" && (error as Error).message.includes(key),
            );
            await scene.server.memory.put(manifest, whole);
          }
          const device = await scene.open(id);
          assert.equal(await device.read(0, 8), "abcdefgh");
          await device.close();
        },
        { encrypted },
      ));
  });
}

describe("a manifest", () => {
  it("of a newer version is refused by name and left as it is", () =>
    Scene.play(async (scene) => {
      const id = await written(scene);
      const key = `${id}/config.json`;
      await alter(scene, key, (bytes) => {
        return Buffer.from(JSON.stringify({ ...JSON.parse(bytes.toString()), Version: 7, Novelty: "x" }));
      });
      const before = await scene.server.bytes(key);
      await assert.rejects(scene.open(id), (error) => {
        return codeOf(error) === "VOLUME_VERSION" && String(error).includes("7");
      });
      assert.ok(before.equals(await scene.server.bytes(key)));
    }));

  it("that makes no sense is refused, whatever is in it", () =>
    Scene.play(async (scene) => {
      const id = await written(scene);
      const key = `${id}/config.json`;
      const whole = await scene.server.bytes(key);
      const fields = JSON.parse(whole.toString()) as Record<string, unknown>;
      const hostile: Buffer[] = [Buffer.alloc(0), Buffer.alloc(2 * 2 ** 20, " "), whole.subarray(0, 100)];
      for (const name of Object.keys(fields)) {
        for (const value of [undefined, -1, 1.5, 2 ** 60, "../../x", [[]], { a: 1 }, "\0".repeat(5000)]) {
          hostile.push(Buffer.from(JSON.stringify({ ...fields, [name]: value })));
        }
      }
      const codes = new Set<string>();
      for (const bytes of hostile) {
        await scene.server.memory.put(key, bytes);
        try {
          const device = await scene.open(id, { takeOver: true });
          await device.close();
        } catch (error) {
          codes.add(codeOf(error));
        }
      }
      const known = ["VOLUME_DAMAGED", "VOLUME_VERSION", "VOLUME_KEY"];
      assert.deepEqual(
        [...codes].filter((one) => !known.includes(one)),
        [],
      );
      await scene.server.memory.put(key, whole);
      assert.equal(await (await scene.open(id, { takeOver: true })).read(0, 8), "abcdefgh");
    }));
});

describe("what is kept", () => {
  it("costs map bytes in proportion to what was changed", () =>
    Scene.play(
      async (scene) => {
        const device = await scene.created();
        // Every other block: as many extents as there can be.
        for (let block = 0; block < 2000; block += 2) await device.write(block, "x");
        await device.drain();
        const before = scene.server.puts.length;
        const rounds = 60;
        for (let round = 0; round < rounds; round += 1) {
          await device.write((round * 34) % 2000, "y");
          await device.drain();
        }
        const maps = scene.server.puts.slice(before).filter(({ key }) => key.includes("/map/"));
        const mapBytes = maps.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        // A whole map has more than 16,000 bytes.
        assert.ok(mapBytes < rounds * 1000, `${mapBytes} bytes of map objects for ${rounds} blocks`);
      },
      { sizeBytes: 2048 * blockBytes, walLimitBytes: 16 * 2 ** 20, drainBytes: 8 * 2 ** 20 },
    ));

  it("is at most twice of what was written, at the time and in the store", () =>
    Scene.play(
      async (scene) => {
        const device = await scene.created();
        const random = new Random(3);
        const blocks = 3000;
        for (let i = 0; i < blocks; i += 1)
          await device.write(random.below(256), "abcdefghij"[i % 10] as string);
        await device.drain();
        const sent = scene.server.puts.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
        assert.ok(sent <= 2 * blocks * blockBytes, `${sent} bytes sent for ${blocks * blockBytes}`);
        await device.volume.collectGarbage();
        assert.ok((await storedBytes(scene, device)) < 2 * 256 * blockBytes);
      },
      { segmentBytes: 256 * 1024, walLimitBytes: 2 ** 21, drainBytes: 512 * 1024 },
    ));

  it("that a clone looks for while its snapshot is removed is no damage", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      const { id } = await device.volume.snapshot({ name: "one" });
      let isRemoved = false;
      scene.server.onRequest = async (verb, key) => {
        if (isRemoved || verb !== "get" || !key.includes(id)) return;
        isRemoved = true;
        await device.volume.removeSnapshot(id);
      };
      const cloning = scene.store.clone({ volume: device.id, snapshot: id }, {});
      await assert.rejects(cloning, (error) => codeOf(error) === "SNAPSHOT_NOT_FOUND");
      assert.ok(isRemoved);
      assert.equal((await scene.store.list()).length, 1);
    }));

  it("for a snapshot stays while it lives, and goes with it", () =>
    Scene.play(async (scene) => {
      const device = await scene.created();
      await device.write(0, "a".repeat(100));
      const { id } = await device.volume.snapshot({ name: "one" });
      await device.write(0, "b".repeat(100));
      await device.drain();
      await device.volume.collectGarbage();
      const clone = await scene.store.clone({ volume: device.id, snapshot: id }, {});
      const opened = await scene.open(clone.id);
      assert.equal(await opened.read(0, 101), `${"a".repeat(100)}.`);
      await assert.rejects(device.volume.removeSnapshot(id), (error) => codeOf(error) === "SNAPSHOT_NEEDED");
      await opened.close();
      const both = await storedBytes(scene, device);
      await scene.store.remove(clone.id);
      await device.volume.removeSnapshot(id);
      await device.volume.collectGarbage();
      const one = await storedBytes(scene, device);
      assert.ok(one < both - 90 * blockBytes, `${both} bytes with it, ${one} without`);
      assert.equal(await device.read(0, 101), `${"b".repeat(100)}.`);
      await device.close();
      await scene.store.remove(device.id);
      assert.deepEqual(await scene.server.keys(), []);
    }));
});

async function storedBytes(scene: Scene, { id }: Device): Promise<number> {
  let sum = 0;
  for (const key of await keysOf(scene, id, "chunks")) sum += (await scene.server.bytes(key)).length;
  return sum;
}
