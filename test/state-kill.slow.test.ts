import { after, before, describe, it } from "node:test";
import { freezePoints, resumePoints, StateWorld, suspendPoints } from "./state-world.ts";

const rounds = Number(process.env.SKEP_KILL_ROUNDS ?? 60);
const seed = Number(process.env.SKEP_KILL_SEED ?? 5);
/** QEMU's death costs a boot of the guest. */
const qemuEvery = 6;
const longestMs = 400;

/** A linear congruential generator (Numerical Recipes' constants): the same seed, the same kills. */
function random(from: number): () => number {
  let state = from >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

let world: StateWorld;
before(async () => {
  world = await StateWorld.make();
  await world.ask({ verb: "create" });
  await world.leaveMarks();
});
after(() => world[Symbol.asyncDispose]());

const points = { suspend: suspendPoints, resume: resumePoints, freeze: freezePoints };

describe(`kill -9 at any moment of suspend, resume and freeze (seed ${seed})`, () => {
  const next = random(seed);
  for (let round = 1; round <= rounds; round += 1) {
    const chance = next();
    const verb = chance < 0.4 ? "suspend" : chance < 0.65 ? "resume" : "freeze";
    const point = points[verb][Math.floor(next() * points[verb].length)] as string;
    const afterMs = next() < 0.4 ? 0 : Math.floor(next() * longestMs);
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
