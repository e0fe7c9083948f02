import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { SkepError } from "@skep/base";
import { StateWorld } from "./state-world.ts";
import { eventually } from "./support.ts";

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

describe("QEMU that is killed", () => {
  for (const point of ["freeze-copied", "freeze-stopped", "freeze-disks", "freeze-running"]) {
    it(`while its machine is frozen (${point}) is a power cut`, async () => {
      await world.writeRecord();
      const killAt = { what: "qemu", point, afterMs: 0 } as const;
      // Dead once it goes on, it has been frozen all the same.
      await world.ask({ verb: "freeze", killAt }).catch((error: SkepError) => {
        assert.equal(error.code, "QEMU_GONE", error.message);
      });
      await world.ask({ verb: "give back" });
      await world.afterKill("qemu");
      await world.checkNothingLeft();
      assert.equal(await world.wake(), "stopped");
      await world.checkMarks();
    });
  }

  for (const point of ["stopped", "packed", "committed"]) {
    it(`while its machine is suspended (${point}) is a power cut, unless the state was whole`, async () => {
      const killAt = { what: "qemu", point, afterMs: 0 } as const;
      const whole = point === "committed";
      const suspend = world.ask({ verb: "suspend", killAt });
      if (whole) await suspend;
      else await assert.rejects(suspend, { code: "QEMU_GONE" });
      await world.checkNothingLeft();
      assert.equal(await world.wake(), whole ? "suspended" : "stopped");
      await world.checkMarks();
    });
  }

  it("before its guest goes on leaves the machine suspended", async () => {
    await world.ask({ verb: "suspend" });
    const killAt = { what: "qemu", point: "loaded", afterMs: 0 } as const;
    await assert.rejects(world.ask({ verb: "resume", killAt }));
    await world.checkNothingLeft();
    assert.equal(await world.wake(), "suspended");
    await world.checkMarks();
  });

  it("before its guest begins, in the stead of a resume, leaves the machine suspended", async () => {
    for (const point of ["boot-launched", "boot-told"]) {
      await world.ask({ verb: "suspend" });
      const killAt = { what: "qemu", point, afterMs: 0 } as const;
      await assert.rejects(world.ask({ verb: "resume", cold: true, killAt }));
      await world.checkNothingLeft();
      assert.equal(await world.wake(), "suspended");
      await world.checkMarks();
    }
  });

  it("as its guest goes on is a power cut: its memory is given up, its disk is whole", async () => {
    await world.ask({ verb: "suspend" });
    const killAt = { what: "qemu", point: "running", afterMs: 0 } as const;
    await world.ask({ verb: "resume", killAt });
    await eventually(
      async () => (await world.machine()).state === "stopped",
      () => "the end of QEMU was not seen",
    );
    await world.checkNothingLeft();
    await world.wake();
    await world.checkMarks();
  });
});
