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

describe("control that is killed at any step", () => {
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
