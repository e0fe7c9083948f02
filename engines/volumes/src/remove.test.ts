import assert from "node:assert/strict";
import { buffer } from "node:stream/consumers";
import { describe, it } from "node:test";
import { MemoryStore } from "@skep/objects";
import type { Manifest } from "./manifest.ts";
import { type Candidate, code, Place, read, text, write } from "./testing/place.ts";

async function memory(): Promise<Candidate> {
  const store = new MemoryStore();
  return { store, [Symbol.asyncDispose]: () => store[Symbol.asyncDispose]() };
}

describe("a removal beside a volume that cannot be read", () => {
  for (const [what, manifest, why] of [
    ["is damaged", "{", /is damaged/],
    ["is of a newer skep", JSON.stringify({ Version: 99 }), /version 99/],
  ] as const) {
    it(`is refused, names the volume that ${what}, and harms nothing`, async () => {
      await using place = await Place.open(memory);
      const volumes = place.start();
      const { id } = await volumes.create({ sizeBytes: 2 ** 20 });
      const other = await volumes.create({ sizeBytes: 2 ** 20 });
      await place.store.put(`${other.id}/config.json`, Buffer.from(manifest));
      const refused = (error: unknown) => {
        const { message } = error as Error;
        assert.ok(code("VOLUME_CLONES_UNKNOWN")(error), message);
        assert.match(message, new RegExp(`"${other.id}" is a clone of "${id}"`));
        assert.match(message, why);
        return true;
      };
      {
        await using volume = await volumes.open(id);
        await write(volume, 0, "a");
        const snapshot = await volume.snapshot();
        await assert.rejects(volume.removeSnapshot(snapshot.id), refused);
        await volume.close();
      }
      await assert.rejects(volumes.remove(id, { snapshots: true }), refused);
      const clone = await volumes.clone(
        { volume: id, snapshot: (await volumes.info(id)).snapshots[0]?.id as string },
        {},
      );
      {
        await using volume = await volumes.open(id);
        assert.equal((await read(volume, 0, 4)).toString(), text(4, "a"));
        await volume.close();
      }
      await volumes.remove(other.id, { force: true });
      await volumes.remove(clone.id);
      await volumes.remove(id, { snapshots: true });
      assert.deepEqual((await place.store.list({})).objects, []);
    });
  }
});

describe("a clone that was never opened, while its source is being removed", () => {
  for (const [what, mark] of [
    ["snapshot", (manifest: Manifest) => Object.assign(manifest.Snapshots[0] as object, { Deleting: true })],
    ["volume", (manifest: Manifest) => Object.assign(manifest, { Removing: true })],
  ] as const) {
    it(`is not taken for damaged: the removal of the ${what} is waited for, and may come to nothing`, async () => {
      await using place = await Place.open(memory);
      // Time passes when somebody sleeps; here the removal ends then, for it has found the clone.
      let onSleep = async () => {};
      const clock = { now: () => 0, sleep: () => onSleep() };
      const volumes = place.start("here", { clock });
      const { id } = await volumes.create({ sizeBytes: 2 ** 20 });
      const volume = await volumes.open(id);
      await write(volume, 0, "a");
      const snapshot = await volume.snapshot();
      await volume.close();
      const clone = await volumes.clone({ volume: id, snapshot: snapshot.id }, {});
      const key = `${id}/config.json`;
      const whole = await buffer((await place.store.get(key)).body);
      const marked = JSON.parse(whole.toString()) as Manifest;
      mark(marked);
      await place.store.put(key, Buffer.from(JSON.stringify(marked)));
      await assert.rejects(volumes.open(clone.id), code("VOLUME_SOURCE_GOING"));
      onSleep = async () => void (await place.store.put(key, whole));
      await using opened = await volumes.open(clone.id);
      assert.equal((await read(opened, 0, 4)).toString(), text(4, "a"));
    });
  }
});
