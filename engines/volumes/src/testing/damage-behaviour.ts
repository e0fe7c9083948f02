import assert from "node:assert/strict";
import { buffer } from "node:stream/consumers";
import { describe, it } from "node:test";
import type { ObjectStore } from "@skep/objects";
import { blockBytes } from "../types.ts";
import type { VolumesOptions } from "../volumes.ts";
import { code, type Place, read, text, write } from "./place.ts";

const sizeBytes = 2 ** 20;
const objBlockBytes = 64 * 1024;

/** A closed volume: "a" in its first 8 blocks, "b" in 4 from the 100th, in a chunk each. */
async function written(place: Place, options: Partial<VolumesOptions> = {}): Promise<string> {
  const volumes = place.start("here", options);
  const { id } = await volumes.create({ sizeBytes, objBlockBytes });
  const volume = await volumes.open(id);
  await write(volume, 0, "a", 8 * blockBytes);
  await volume.drain();
  await write(volume, 100 * blockBytes, "b", 4 * blockBytes);
  await volume.close();
  return id;
}

async function keysOf(store: ObjectStore, prefix: string): Promise<string[]> {
  return (await store.list({ prefix })).objects.map(({ key }) => key);
}

const changes = [
  ["missing", () => undefined],
  [
    "altered",
    (bytes: Buffer) => {
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
      return bytes;
    },
  ],
  ["cut", (bytes: Buffer) => bytes.subarray(0, bytes.length - 10)],
] as const;

/** Changes an object behind everybody's back. */
async function alter(
  store: ObjectStore,
  key: string,
  change: (bytes: Buffer) => Buffer | undefined,
): Promise<void> {
  const { body } = await store.get(key);
  const bytes = change(await buffer(body));
  if (bytes === undefined) await store.delete(key);
  else await store.put(key, bytes);
}

/** What volumes say, and keep, when objects in the store are no longer what they were. */
export function damageBehaviour(placeOf: () => Place): void {
  describe("a damaged volume", () => {
    for (const [what, change] of changes) {
      it(`reads what its ${what} chunk does not hold, and says what is lost`, async () => {
        const place = placeOf();
        const id = await written(place);
        const [first = ""] = await keysOf(place.store, `${id}/chunks/`);
        await alter(place.store, first, change);
        const volumes = place.start("elsewhere"); // which has nothing of it in memory
        const { findings } = await volumes.check(id);
        const lost = findings.flatMap((one) => one.lost);
        assert.ok(lost.length > 0, "something is lost");
        assert.ok(lost.every(({ offset, length }) => offset + length <= 8 * blockBytes));
        assert.ok(findings.some(({ object }) => object.includes(first)));
        await using volume = await volumes.open(id);
        assert.equal((await read(volume, 100 * blockBytes, 4096)).toString(), text(4096, "b"));
        for (const { offset, length } of lost) await assert.rejects(read(volume, offset, length));
        await write(volume, 0, "A", 8 * blockBytes);
        assert.equal((await read(volume, 0, 4096)).toString(), text(4096, "A"));
      });

      it(`is not opened with a map object that is ${what}`, async () => {
        const place = placeOf();
        const id = await written(place, { inlineBytes: 0 });
        const [first = ""] = await keysOf(place.store, `${id}/map/`);
        const whole = await buffer((await place.store.get(first)).body);
        await alter(place.store, first, change);
        const volumes = place.start("elsewhere");
        await assert.rejects(volumes.open(id), code("VOLUME_DAMAGED"));
        const { findings } = await volumes.check(id);
        assert.ok(findings.some(({ object, kind }) => kind === "map" && object.includes(first)));
        await place.store.put(first, whole);
        await using volume = await volumes.open(id);
        assert.equal((await read(volume, 0, 4096)).toString(), text(4096, "a"));
      });
    }
  });
}
