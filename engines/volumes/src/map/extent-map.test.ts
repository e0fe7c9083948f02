import assert from "node:assert/strict";
import { test } from "node:test";
import { ExtentMap, hole, zero } from "./extent-map.ts";
import { sequence } from "./testing.ts";

/** A volume of a few pages, block by block; it may begin far up, at a page's or directory's border. */
class Model {
  readonly blocks = new Map<number, { source: number; position: number }>();
  readonly step: number;
  constructor(step: number) {
    this.step = step;
  }
  set(block: number, count: number, source: number, position: number): Run[] {
    const replaced = this.remove(block, count);
    for (let i = 0; i < count && source !== hole; i++) {
      const at = source === zero ? position : (position + i * this.step) >>> 0;
      this.blocks.set(block + i, { source, position: at });
    }
    return replaced;
  }
  remove(block: number, count: number): Run[] {
    const replaced = this.range(block, count).filter((run) => run[1] !== hole);
    for (let i = 0; i < count; i++) this.blocks.delete(block + i);
    return replaced;
  }
  range(block: number, count: number): Run[] {
    const runs: Run[] = [];
    for (let at = block; at < block + count; at++) {
      const is = this.blocks.get(at);
      runs.push([at, is?.source ?? hole, is?.position ?? 0]);
    }
    return runs;
  }
}

/** One block: number, source, position. */
type Run = [block: number, source: number, position: number];

function spread(step: number, into: Run[]) {
  return (block: number, count: number, source: number, position: number) => {
    for (let i = 0; i < count; i++) {
      into.push([block + i, source, source >= zero ? position : (position + i * step) >>> 0]);
    }
  };
}

const places = [0, 4096 * 1024 - 6000, 2 ** 31 - 5000, 2 ** 32 - 10000];

for (const step of [1, 4128]) {
  test(`an extent map with step ${step} holds what an array of blocks would`, () => {
    for (let seed = 0; seed < 24; seed++) {
      const random = sequence(seed * 2 + step);
      const low = places[seed % places.length] as number;
      const map = new ExtentMap(step);
      const model = new Model(step);
      const width = seed % 3 === 0 ? 200 : 10000;
      for (let turn = 0; turn < 300; turn++) {
        const from = random(width);
        const block = low + from;
        const count = 1 + random(Math.min(width - from, random(8) === 0 ? 6000 : 20));
        const told: Run[] = [];
        let expected: Run[];
        if (random(4) === 0) {
          map.remove(block, count, spread(step, told));
          expected = model.remove(block, count);
        } else {
          const source = random(6) === 0 ? zero : random(3);
          // often such that neighbours continue each other, also around 2^32
          const position = source === zero ? random(2) : (random(3) * 7 + from * step + 2 ** 32 - 400) >>> 0;
          map.set(block, count, source, position, spread(step, told));
          expected = model.set(block, count, source, position);
        }
        assert.deepEqual(told, expected, `seed ${seed} turn ${turn}`);
        if (turn % 50 === 49) check(map, model, low, width, `seed ${seed} turn ${turn}`);
      }
      map.removeWhere((source) => source === 1 || source === zero);
      for (const [block, { source }] of model.blocks) {
        if (source === 1 || source === zero) model.blocks.delete(block);
      }
      check(map, model, low, width, `seed ${seed} after removeWhere`);
      map.remove(low, width);
      assert.deepEqual([map.blocks, map.extents, map.memoryBytes], [0, 0, new ExtentMap(step).memoryBytes]);
    }
  });
}

function check(map: ExtentMap, model: Model, low: number, width: number, where: string): void {
  const runs: Run[] = [];
  let count = 0;
  let holeBefore = false;
  map.forRange(low, width, (block, blocks, source, position) => {
    assert.ok(!(source === hole && holeBefore), `${where}: neighbouring holes are one`);
    holeBefore = source === hole;
    if (source !== hole) count++;
    spread(model.step, runs)(block, blocks, source, position);
  });
  assert.deepEqual(runs, model.range(low, width), where);
  assert.equal(map.blocks, model.blocks.size, where);
  assert.equal(map.extents, count, where);
  let last = { source: hole, end: -1, next: 0 };
  map.forEach((block, blocks, source, position) => {
    const continues =
      last.end === block && last.source === source && last.next === position && block % 4096 !== 0;
    assert.ok(!continues, `${where}: neighbours that continue each other are one run`);
    last = {
      source,
      end: block + blocks,
      next: source === zero ? position : (position + blocks * model.step) >>> 0,
    };
  });
  for (let i = 0; i < 60; i++) {
    const at = Math.floor((i * width) / 60);
    const [, source, position] = model.range(low + at, 1)[0] as Run;
    assert.ok(map.find(low + at, 1) === 1);
    assert.deepEqual([map.foundSource, map.foundPosition], [source, position], where);
    let first = low + at;
    while (first < low + width && !model.blocks.has(first)) first++;
    assert.equal(map.firstMapped(low + at, width - at), first, where);
  }
}

test("a find ends where its run ends", () => {
  const map = new ExtentMap(1);
  map.set(10, 5, 1, 100);
  assert.equal(map.find(4, 100), 6);
  assert.equal(map.foundSource, hole);
  assert.equal(map.find(12, 100), 3);
  assert.deepEqual([map.foundSource, map.foundPosition], [1, 102]);
  assert.equal(map.find(12, 2), 2);
});

test("an empty volume of 16 TiB is one hole, and costs next to nothing", () => {
  const map = new ExtentMap(1);
  const runs: number[][] = [];
  map.forRange(0, 2 ** 32, (...run) => runs.push(run));
  assert.deepEqual(runs, [[0, 2 ** 32, hole, 0]]);
  assert.equal(map.firstMapped(0, 2 ** 32), 2 ** 32);
  assert.ok(map.memoryBytes < 4096);
});

test("16 TiB of zeroes cost kilobytes, and are changed in part and as a whole", () => {
  const map = new ExtentMap(4128);
  map.set(0, 2 ** 32, zero, 7);
  assert.ok(map.memoryBytes < 64 * 1024, `${map.memoryBytes} bytes`);
  assert.equal(map.blocks, 2 ** 32);
  map.set(2 ** 31 + 5, 2, 3, 9);
  map.remove(2 ** 30, 1);
  assert.equal(map.blocks, 2 ** 32 - 1);
  const odd: number[][] = [];
  let next = 0;
  map.forRange(0, 2 ** 32, (block, count, source, position) => {
    assert.equal(block, next);
    next = block + count;
    if (source !== zero) odd.push([block, count, source, position]);
    else assert.equal(position, 7);
  });
  assert.equal(next, 2 ** 32);
  assert.deepEqual(odd, [
    [2 ** 30, 1, hole, 0],
    [2 ** 31 + 5, 2, 3, 9],
  ]);
  let told = 0;
  map.remove(0, 2 ** 32, (_block, count) => {
    told += count;
  });
  assert.equal(told, 2 ** 32 - 1);
  assert.deepEqual([map.blocks, map.extents], [0, 0]);
});

test("blocks behind 2^32 are refused", () => {
  const map = new ExtentMap(1);
  assert.throws(() => map.set(2 ** 32 - 1, 2, 0, 0), RangeError);
  assert.throws(() => map.remove(-1, 1), RangeError);
});

test("random 4 KiB writes take at most 16 bytes each once a page has hundreds of them", () => {
  const random = sequence(1);
  const map = new ExtentMap(1);
  for (let i = 0; i < 40_000; i++) map.set(random(100 * 4096), 1, i >>> 10, (i * 7) & 1023);
  assert.ok(map.memoryBytes < map.extents * 16, `${map.memoryBytes} bytes for ${map.extents} extents`);
});
