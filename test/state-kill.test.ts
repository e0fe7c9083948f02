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

  for (const hooks of [true, false]) {
    it(`of a resume ${hooks ? "with" : "without"} hooks has ${hooks ? "them" : "none"} run`, async () => {
      const path = "/etc/skep/after-resume.d/note";
      await world.sh(
        `mkdir -p /etc/skep/after-resume.d; printf '#!/bin/sh\\necho ran >>/notes\\n' >${path}; chmod +x ${path}; : >/notes`,
      );
      await world.ask({ verb: "suspend" });
      const killAt = { what: "control", point: "resuming", afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "resume", hooks, killAt }), killed);
      await world.open();
      // In the turn after that of the hooks.
      await world.ask({ verb: "suspend" });
      await world.ask({ verb: "resume", hooks: false });
      assert.equal(await world.sh("cat /notes; rm -r /etc/skep /notes"), hooks ? "ran" : "");
      await world.checkMarks();
    });
  }

  for (const point of ["boot-launched", "boot-told"]) {
    it(`of a boot in the stead of a resume (${point}) leaves the machine suspended, or booted`, async () => {
      await world.ask({ verb: "suspend" });
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "resume", cold: true, killAt }), killed);
      await world.open();
      await world.checkNothingLeft();
      const booted = point === "boot-told";
      assert.equal(await world.wake(), booted ? "running" : "suspended");
      if (booted) {
        await world.checkDisk();
        await assert.rejects(world.checkMarks());
        await world.leaveMarks();
      } else await world.checkMarks();
      await world.checkNothingLeft();
    });
  }
});
