import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { killed, resumePoints, StateWorld, suspendPoints } from "./state-world.ts";

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

describe("control that is killed at any step", () => {
  for (const point of suspendPoints) {
    it(`of a suspend (${point}) leaves the machine running, or suspended as a whole`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "suspend", killAt }), killed);
      await world.open();
      await world.checkNothingLeft();
      const whole = point === "committed" || point === "saved";
      assert.equal(await world.wake(), whole ? "suspended" : "running");
      await world.checkMarks();
      await world.checkNothingLeft();
    });
  }

  for (const point of resumePoints) {
    it(`of a resume (${point}) leaves the machine suspended, or running`, async () => {
      await world.ask({ verb: "suspend" });
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "resume", killAt }), killed);
      await world.open();
      await world.checkNothingLeft();
      assert.equal(await world.wake(), point === "loaded" ? "suspended" : "running");
      await world.checkMarks();
      await world.checkNothingLeft();
    });
  }
});
