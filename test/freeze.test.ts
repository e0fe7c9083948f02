import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { SkepError } from "@skep/base";
import type { FreezeAnswer } from "./state-process.ts";
import { freezePoints, killed, StateWorld } from "./state-world.ts";
import { eventually } from "./support.ts";

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

async function freeze(machine = "web"): Promise<FreezeAnswer> {
  const answer = await world.ask<FreezeAnswer>({ verb: "freeze", compare: true, machine });
  assert.ok(answer !== killed);
  return answer;
}

describe("a machine that is frozen", () => {
  after(() => world.ask({ verb: "give back" }));

  it("goes on; its frozen memory is, byte for byte, that of the instant at which it stood still", async (t) => {
    const { memory, frozen, pauseMs, populatedMiB } = await freeze();
    assert.equal(frozen, memory);
    assert.ok(pauseMs > 0 && populatedMiB > 0);
    t.diagnostic(`paused ${pauseMs} ms, ${populatedMiB} MiB copied`);
    await world.checkMarks();
    assert.equal((await world.machine()).state, "running");
    await world.ask({ verb: "give back" });
    await world.checkNothingLeft();
  });

  it("is frozen anew as it is by then, also in memory that it did not have before", async () => {
    await world.sh("dd if=/dev/zero of=/tmp/more bs=1M count=8 2>/dev/null; rm /tmp/more");
    await world.writeRecord();
    const [first, second] = [await freeze(), await freeze()];
    assert.notEqual(first.frozen, second.frozen); // it counts
    assert.equal(second.frozen, second.memory);
    assert.equal((await world.frozen()).length, 2);
    await world.checkMarks();
    await world.ask({ verb: "give back" });
    await world.checkNothingLeft();
  });

  // After the last, there is nothing that could fail.
  for (const point of freezePoints.slice(0, -1)) {
    it(`runs on where that fails (${point}), and nothing is left`, async () => {
      await assert.rejects(world.ask({ verb: "freeze", failAt: point }), (error: SkepError) => {
        assert.equal(error.code, "STATE_UNFROZEN");
        assert.match(error.message, /"web" could not be frozen and runs on: it fails at/);
        return true;
      });
      assert.equal((await world.machine()).state, "running");
      await world.checkNothingLeft();
      await world.checkMarks();
      await world.writeRecord();
      await world.checkDisk();
    });
  }

  it("can still be suspended, resumed and booted: its disks have all that was written", async () => {
    await world.ask({ verb: "suspend" });
    await world.checkNothingLeft();
    assert.equal(await world.wake(), "suspended");
    await world.checkMarks();
    await world.ask({ verb: "stop" });
    assert.equal(await world.wake(), "stopped");
    await world.checkNothingLeft();
  });
});

describe("a machine that borrows its memory", () => {
  const machine = "copy";
  const sh = (script: string) => world.ask<string>({ verb: "exec", script, machine });
  before(() => world.ask({ verb: "fork", copy: machine }));

  it("is frozen with the pages that it has changed laid over what it borrows", async () => {
    await sh("echo mine >/tmp/mine; dd if=/dev/zero of=/tmp/more bs=1M count=4 2>/dev/null");
    const { memory, frozen, populatedMiB } = await freeze(machine);
    assert.equal(frozen, memory);
    assert.ok(populatedMiB > 0);
    assert.equal(await sh("cat /tmp/mine"), "mine");
    await world.ask({ verb: "give back" });
    assert.equal((await world.frozen()).length, 1); // what it borrows
  });

  it("has memory of its own once it was suspended and resumed, and lets go what it had borrowed", async () => {
    const count = Number(await sh("cat /tmp/count"));
    await world.ask({ verb: "suspend", machine });
    assert.deepEqual(await world.frozen(), []);
    await world.ask({ verb: "resume", machine });
    assert.equal(await sh("cat /tmp/mine"), "mine");
    await eventually(
      async () => Number(await sh("cat /tmp/count")) > count,
      () => "what counted in it has stopped",
    );
    await sh("dd if=/dev/vda bs=1k count=1 of=/dev/null 2>/dev/null"); // its disk is there
  });

  it("can be suspended and frozen again after that", async () => {
    const { memory, frozen } = await freeze(machine);
    assert.equal(frozen, memory);
    await world.ask({ verb: "give back" });
    await world.ask({ verb: "suspend", machine });
    await world.ask({ verb: "resume", machine });
    assert.equal(await sh("cat /tmp/mine"), "mine");
    await world.ask({ verb: "remove", machine });
    await world.checkNothingLeft();
    await world.checkMarks();
  });
});
