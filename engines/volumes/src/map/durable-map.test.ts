import assert from "node:assert/strict";
import { test } from "node:test";
import type { ChunkRow } from "./chunk-table.ts";
import { decodeMapObject, encodeMapObject, MapDamaged, type MapObject } from "./codec.ts";
import { DurableMap, type MapDelta } from "./durable-map.ts";
import { hole } from "./extent-map.ts";
import { sequence } from "./testing.ts";

const own = "vol-00000000000000001";
const other = "vol-00000000000000002";
const pause = async () => {};

function row(version: number, number: number, blocks: number, source = 0): ChunkRow {
  const headerBytes = 4096;
  const bytes = headerBytes + blocks * 4096;
  return { source, epoch: 1, number, bytes, headerBytes, blocks, birth: version, death: 0 };
}

/** What a drain would make: new chunks over random places, trims, and rows that nobody needs. */
function randomDelta(
  map: DurableMap,
  random: (below: number) => number,
  snapshots: number[],
  size: number,
): MapDelta {
  const version = map.version + 1;
  const removed = map.freeable(snapshots).map(({ slot }) => slot);
  const rows: { slot: number; row: ChunkRow }[] = [];
  const extents: number[] = [];
  const slots = map.chunks.freeSlots(1 + random(3));
  let block = random(50);
  for (const slot of slots) {
    const blocks = 1 + random(12);
    rows.push({ slot, row: row(version, version * 8 + slot, blocks) });
    let ordinal = 0;
    while (ordinal < blocks && random(12) > 0) {
      const count = Math.min(blocks - ordinal, 1 + random(4));
      if (block + count > size) break;
      extents.push(block, count, slot, ordinal);
      ordinal += count;
      block += count + random(20);
      if (random(4) === 0 && block + 30 < size) {
        const trimmed = 1 + random(30);
        extents.push(block, trimmed, hole, 0);
        block += trimmed;
      }
    }
  }
  return { version, removed, rows, extents };
}

const everything = (map: DurableMap) => {
  const extents: number[][] = [];
  map.extents.forEach((...run) => {
    extents.push(run);
  });
  const rows = [...map.chunks.slots()].map((slot) => ({
    slot,
    ...map.chunks.row(slot),
    source: map.sources[map.chunks.source(slot)],
    live: map.chunks.live(slot),
  }));
  const { liveBlocks, ownBytes, ownChunks, ownBlocks } = map.chunks;
  return { version: map.version, extents, rows, liveBlocks, ownBytes, ownChunks, ownBlocks };
};

async function through(object: MapObject): Promise<MapObject> {
  return decodeMapObject((await encodeMapObject(object)).slice());
}

test("a map that is loaded is the map that was saved, and its counts are those of a recount", async () => {
  for (let seed = 0; seed < 20; seed++) {
    const random = sequence(seed);
    const size = 9000;
    const map = new DurableMap(own);
    let saved: MapObject[] = [];
    const snapshots: number[] = [];
    for (let turn = 0; turn < 60; turn++) {
      if (turn > 0 && random(15) === 0) {
        // a new base and the delta behind it, as in one swap
        saved = [await through(await map.baseObject(map.version + 1, pause))];
        const delta = { ...randomDelta(map, random, snapshots, size), version: map.version + 2 };
        for (const added of delta.rows) added.row.birth = delta.version;
        saved.push(await through(map.deltaObject(delta)));
        map.apply(delta);
      } else {
        const delta = randomDelta(map, random, snapshots, size);
        saved.push(await through(map.deltaObject(delta)));
        map.apply(delta);
      }
      if (random(10) === 0) snapshots.push(map.version);
      if (random(10) === 0) snapshots.splice(random(snapshots.length), 1);
    }
    const loaded = await DurableMap.load({ volume: own, blocks: size, objects: saved, pause });
    assert.deepEqual(everything(loaded), everything(map), `seed ${seed}`);

    const live = new Map<number, number>();
    map.extents.forEach((_block, count, slot) => {
      live.set(slot, (live.get(slot) ?? 0) + count);
    });
    let bytes = 0;
    for (const slot of map.chunks.slots()) {
      assert.equal(map.chunks.live(slot), live.get(slot) ?? 0);
      assert.equal(map.chunks.death(slot) === 0, live.has(slot), `seed ${seed} slot ${slot}`);
      bytes += map.chunks.row(slot)?.bytes ?? 0;
      live.delete(slot);
    }
    assert.equal(live.size, 0);
    assert.equal(bytes, map.chunks.ownBytes);
  }
});

test("a dead chunk is freed once no snapshot between its birth and death is left", () => {
  const map = new DurableMap(own);
  map.apply({ version: 1, removed: [], rows: [{ slot: 0, row: row(1, 1, 4) }], extents: [0, 4, 0, 0] });
  map.apply({ version: 3, removed: [], rows: [{ slot: 1, row: row(3, 2, 4) }], extents: [0, 4, 1, 0] });
  assert.equal(map.chunks.death(0), 3);
  assert.deepEqual(map.freeable([2]), []);
  assert.deepEqual(map.freeable([1]), []);
  assert.deepEqual(map.freeable([3]), [{ slot: 0, own: true }]);
  map.apply({ version: 4, removed: [0], rows: [], extents: [] });
  assert.deepEqual(map.freeable([]), []);
  assert.deepEqual(map.chunks.freeSlots(2), [0, 2]);
});

test("a chunk that nothing points to dies at birth", () => {
  const map = new DurableMap(own);
  map.apply({ version: 5, removed: [], rows: [{ slot: 0, row: row(5, 1, 4) }], extents: [] });
  assert.deepEqual(map.freeable([4, 5, 6]), [{ slot: 0, own: true }]);
});

test("a clone's rows of its source go without their objects, whatever snapshots there are", async () => {
  const source = new DurableMap(other);
  const delta = { version: 1, removed: [], rows: [{ slot: 0, row: row(1, 1, 4) }], extents: [7, 4, 0, 0] };
  const objects = [await through(source.deltaObject(delta))];
  const clone = await DurableMap.load({ volume: own, blocks: 100, objects, pause });
  assert.equal(clone.sources[clone.chunks.source(0)], other);
  assert.equal(clone.chunks.ownBytes, 0);
  assert.deepEqual(
    clone.compactionCandidates({ maxLiveRatio: 1, fullBlocks: 9, limit: 9, snapshotVersions: [] }),
    [],
  );
  const trim = { version: 2, removed: [], rows: [], extents: [0, 2 ** 31, hole, 0] };
  objects.push(await through(clone.deltaObject(trim)));
  clone.apply(trim);
  assert.deepEqual(clone.freeable([1]), [{ slot: 0, own: false }]);
  assert.deepEqual(
    everything(await DurableMap.load({ volume: own, blocks: 100, objects, pause })),
    everything(clone),
  );
});

test("compaction takes the emptiest chunks that no snapshot holds, and finds their extents in one pass", async () => {
  const map = new DurableMap(own);
  map.apply({ version: 1, removed: [], rows: [{ slot: 0, row: row(1, 1, 10) }], extents: [0, 10, 0, 0] });
  map.apply({
    version: 2,
    removed: [],
    rows: [
      { slot: 1, row: row(2, 2, 10) },
      { slot: 2, row: row(2, 3, 10) },
    ],
    extents: [0, 8, hole, 0, 5000, 4, 1, 0, 9000, 6, 1, 4, 20000, 3, 2, 0],
  });
  const rule = { maxLiveRatio: 0.5, fullBlocks: 10, limit: 5, snapshotVersions: [] as number[] };
  assert.deepEqual(map.compactionCandidates(rule), [0, 2]);
  assert.deepEqual(map.compactionCandidates({ ...rule, limit: 1 }), [0]);
  assert.deepEqual(map.compactionCandidates({ ...rule, snapshotVersions: [1] }), [2]);
  assert.deepEqual(await map.liveExtents([0, 1], pause), [8, 2, 0, 8, 5000, 4, 1, 0, 9000, 6, 1, 4]);
});

test("a delta is as large as the change, not as the volume", async () => {
  const map = new DurableMap(own);
  const extents: number[] = [];
  for (let i = 0; i < 1000; i++) extents.push(i * 3, 1, 0, i);
  map.apply({ version: 1, removed: [], rows: [{ slot: 0, row: row(1, 1, 1000) }], extents });
  const delta = { version: 2, removed: [], rows: [{ slot: 1, row: row(2, 2, 1) }], extents: [9, 1, 1, 0] };
  assert.ok((await encodeMapObject(map.deltaObject(delta))).length < 48 + 28 + 36 + 16 + 1);
});

const lies: [name: string, delta: MapDelta][] = [
  ["a chunk that is not there", { version: 2, removed: [], rows: [], extents: [0, 1, 9, 0] }],
  ["a block behind a chunk's end", { version: 2, removed: [], rows: [], extents: [0, 1, 0, 4] }],
  ["a block behind the volume's end", { version: 2, removed: [], rows: [], extents: [100, 1, 0, 0] }],
  ["a block of a chunk twice", { version: 2, removed: [], rows: [], extents: [50, 1, 0, 0] }],
  ["removing a live chunk", { version: 2, removed: [0], rows: [], extents: [] }],
  ["removing a free slot", { version: 2, removed: [3], rows: [], extents: [] }],
  [
    "adding to a taken slot",
    { version: 2, removed: [], rows: [{ slot: 0, row: row(2, 2, 1) }], extents: [] },
  ],
  [
    "a chunk born elsewhere",
    { version: 2, removed: [], rows: [{ slot: 1, row: row(1, 2, 1) }], extents: [] },
  ],
  ["an old version", { version: 1, removed: [], rows: [], extents: [] }],
];
for (const [name, delta] of lies) {
  test(`a delta is refused that speaks of ${name}`, async () => {
    const map = new DurableMap(own);
    const first = { version: 1, removed: [], rows: [{ slot: 0, row: row(1, 1, 4) }], extents: [7, 4, 0, 0] };
    const objects = [await through(map.deltaObject(first)), await through(map.deltaObject(delta))];
    await assert.rejects(DurableMap.load({ volume: own, blocks: 100, objects, pause }), MapDamaged);
  });
}
