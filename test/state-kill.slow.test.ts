import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { seeded } from "@skep/base/testing";
import { freezePoints, killed, resumePoints, StateWorld, suspendPoints } from "./state-world.ts";

const rounds = Number(process.env.SKEP_KILL_ROUNDS ?? 60);
const seed = Number(process.env.SKEP_KILL_SEED ?? 5);
/** QEMU's death costs a boot of the guest. */
const qemuEvery = 6;
const longestMs = 400;

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

const points = { suspend: suspendPoints, resume: resumePoints, freeze: freezePoints };

describe(`kill -9 at any moment of suspend, resume and freeze (seed ${seed})`, () => {
  const next = seeded(seed);
  for (let round = 1; round <= rounds; round += 1) {
    const chance = next(100);
    const verb = chance < 40 ? "suspend" : chance < 65 ? "resume" : "freeze";
    const point = points[verb][next(points[verb].length)] as string;
    const afterMs = next(10) < 4 ? 0 : next(longestMs);
    const what = round % qemuEvery === 0 ? "qemu" : "control";
    it(`round ${round}: ${what} dies ${afterMs} ms after "${point}" of ${verb}`, async () => {
      if (verb === "resume") await world.ask({ verb: "suspend" });
      // What was not killed in time has done its work; what was killed has failed, or never answers.
      await world.ask({ verb, killAt: { what, point, afterMs } }).catch(() => undefined);
      await world.afterKill(what);
      await world.ask({ verb: "give back" });
      await world.checkNothingLeft();
      await world.wake();
      await world.checkMarks();
      await world.checkNothingLeft();
    });
  }
});

describe("control that is killed at any step of a freeze", () => {
  for (const point of freezePoints) {
    it(`(${point}) leaves the machine running, and nothing of the frozen one`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "freeze", killAt }), killed);
      await world.open();
      await world.checkNothingLeft();
      assert.equal(await world.wake(), "running");
      await world.checkMarks();
      await world.writeRecord();
      await world.checkDisk();
    });
  }
});
