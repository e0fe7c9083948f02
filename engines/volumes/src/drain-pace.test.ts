import assert from "node:assert/strict";
import { test } from "node:test";
import { DrainPace } from "./drain-pace.ts";

const mib = 2 ** 20;
const roomy = () => 10_000 * mib;
const waiting = (bytes: number, changes = 1) => ({ bytes, changes });

test("a drain begins with as much as the store takes in about four seconds", () => {
  const pace = new DrainPace(512 * mib, roomy);
  const known = () => {
    for (let i = 0; i < 20; i += 1) assert.equal(pace.isDue(waiting(pace.bytes - 1)), false);
    assert.equal(pace.isDue(waiting(pace.bytes)), true);
    return pace.bytes;
  };
  const first = known();
  for (let i = 0; i < 10; i += 1) pace.took(100 * mib, 1000);
  assert.ok(known() > first && Math.abs(known() - 400 * mib) < mib);
  for (let i = 0; i < 10; i += 1) pace.took(100 * mib, 10);
  assert.equal(known(), 512 * mib);
  for (let i = 0; i < 20; i += 1) pace.took(20 * mib, 10_000);
  assert.equal(known(), 32 * mib);
  pace.took(4096, 1); // says nothing of how fast the store is
  assert.equal(known(), 32 * mib);
});

test("small limits are kept", () => {
  assert.equal(new DrainPace(mib, roomy).isDue(waiting(mib)), true);
  const pace = new DrainPace(mib, roomy);
  pace.took(100 * mib, 1);
  assert.equal(pace.isDue(waiting(mib)), true);
});

test("many small writes are drained before all of them take long at once", () => {
  const pace = new DrainPace(512 * mib, roomy);
  assert.equal(pace.isDue(waiting(mib, 30_000)), false);
  assert.equal(pace.isDue(waiting(mib, 40_000)), true);
});

test("with little space on the disk a drain begins while there is enough for it", () => {
  let free = 300 * mib;
  const pace = new DrainPace(512 * mib, () => free);
  for (let bytes = mib; bytes < 60 * mib; bytes += mib) {
    assert.equal(pace.isDue(waiting(bytes)), false);
    free -= mib;
  }
  let bytes = 60 * mib;
  while (!pace.isDue(waiting(bytes))) {
    bytes += mib;
    free -= mib;
  }
  assert.ok(free > 2 * bytes, `${free / mib} MiB for ${bytes / mib}`);
  free = 300 * mib;
  assert.equal(pace.isDue(waiting(mib)), false, "after it");
});
