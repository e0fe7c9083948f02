import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Pace } from "./pace.ts";

describe("where a file operation is done", () => {
  let now = 0;
  const take = (pace: Pace, ns: number) => pace.inPlace(() => (now += ns));

  it("is in place while the disk is quick", () => {
    const pace = new Pace(() => now);
    for (let i = 0; i < 100; i += 1) take(pace, 10_000);
    assert.equal(pace.quick(), true);
  });

  it("is in the pool after a slow one, twice as long each time, and never for more than five seconds", () => {
    const pace = new Pace(() => now);
    for (const pauseNs of [20e6, 40e6, 80e6, 160e6, 320e6, 640e6, 1280e6, 2560e6, 5000e6, 5000e6]) {
      take(pace, 3_000_000);
      now += pauseNs - 1;
      assert.equal(pace.quick(), false, `${pauseNs} ns after`);
      now += 1;
      assert.equal(pace.quick(), true, `${pauseNs} ns after`);
    }
  });

  it("is forgotten after many quick ones", () => {
    const pace = new Pace(() => now);
    take(pace, 3_000_000);
    now += 20e6;
    take(pace, 3_000_000);
    now += 40e6;
    for (let i = 0; i < 64; i += 1) take(pace, 10_000);
    take(pace, 3_000_000);
    now += 20e6;
    assert.equal(pace.quick(), true);
  });

  it("counts what fails, too", () => {
    const pace = new Pace(() => now);
    const failing = () => {
      now += 3_000_000;
      throw new Error("ENOSPC");
    };
    assert.throws(() => pace.inPlace(failing), /ENOSPC/);
    assert.equal(pace.quick(), false);
  });
});
