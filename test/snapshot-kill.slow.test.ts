import assert from "node:assert/strict";
import { after, before, beforeEach, describe, it } from "node:test";
import { type Held, SnapshotGuest } from "./snapshot-guest.ts";
import { freezePoints } from "./state-world.ts";

const memoryPoints = [...freezePoints, "stored", "recorded"];
const diskPoints = ["disks-held", "disks-stopped", "disks-layered", "disks-running", "stored", "recorded"];
/** At each, whether the machine is set back already, and what it is then. */
const restorePoints = {
  prepared: ["before", "running"],
  ended: ["before", "stopped"],
  switched: ["after", "suspended"],
  loaded: ["after", "suspended"],
  resuming: ["after", "running"],
  running: ["after", "running"],
} as const;

let guest: SnapshotGuest;
let first: Held;
before(async () => {
  ({ guest, first } = await SnapshotGuest.withFirst());
});
after(() => guest?.[Symbol.asyncDispose]());

beforeEach(async () => {
  await guest.restore("first");
  for (const { name } of await guest.list()) if (name !== "first") await guest.remove(name);
  assert.deepEqual(await guest.holds(), first);
});

const control = (point: string) => ({ what: "control", point, afterMs: 0 }) as const;

for (const [what, memory, points] of [
  ["with memory", true, memoryPoints],
  ["of disks alone", false, diskPoints],
] as const) {
  describe(`control that is killed while it takes a snapshot ${what}`, () => {
    for (const point of points) {
      it(`(${point}) leaves the machine running, and the snapshot whole or none`, async () => {
        await guest.write("second");
        const second = { ...first, disk: "second", memory: "second" };
        await guest.killedBy({ verb: "snapshot", snapshot: "second", memory, killAt: control(point) });
        assert.deepEqual(await guest.holds(), second);
        await guest.countsOn();
        await guest.checkHost();
        const there = (await guest.list()).some(({ name }) => name === "second");
        assert.equal(there, point === "recorded");
        await guest.write("third");
        if (there) {
          await guest.restore("second");
          const booted = { disk: "second", memory: "", counter: "" };
          assert.deepEqual(await guest.holds(), memory ? second : booted);
        }
        await guest.take("third", memory);
        await guest.checkHost();
      });
    }
  });
}

describe("control that is killed while it sets a machine back", () => {
  for (const [point, [when, state]] of Object.entries(restorePoints)) {
    it(`(${point}) leaves it as it was, or set back`, async () => {
      await guest.write("second");
      await guest.killedBy({ verb: "restore", snapshot: "first", killAt: control(point) });
      assert.equal((await guest.world.machine()).state, state);
      await guest.checkHost();
      if (state === "stopped") {
        await guest.ask({ verb: "start" });
        assert.deepEqual(await guest.holds(), { disk: "second", memory: "", counter: "" });
      } else {
        if (state === "suspended") await guest.ask({ verb: "resume" });
        const second = { ...first, disk: "second", memory: "second" };
        assert.deepEqual(await guest.holds(), when === "before" ? second : first);
      }
      await guest.checkHost();
    });
  }

  it("is told of as it was: what was made, under whatever name, is finished, and nothing else", async () => {
    const told = async (kind: string, request: object, askedAt: string) =>
      await guest.ask<string>({ verb: "recover job", kind: `machine.snapshot.${kind}`, request, askedAt });
    const askedAt = new Date().toISOString();
    for (const point of ["stored", "recorded"]) {
      await guest.killedBy({ verb: "snapshot", memory: false, killAt: control(point) });
      const finished = point === "recorded" ? "finished" : "undone";
      assert.equal(await told("create", { memory: false }, askedAt), finished);
      // What was there before has nothing to do with it.
      assert.equal(await told("create", { name: "first" }, askedAt), "undone");
    }
    for (const point of ["prepared", "switched"]) {
      const before_ = new Date().toISOString();
      await guest.killedBy({ verb: "restore", snapshot: "first", killAt: control(point) });
      const finished = point === "switched" ? "finished" : "undone";
      assert.equal(await told("restore", { name: "first" }, before_), finished);
      assert.deepEqual(await guest.holds(), first);
    }
  });

  it("while what it was is kept leaves it as it was", async () => {
    await guest.write("second");
    const second = { ...first, disk: "second", memory: "second" };
    const killAt = control("recorded");
    await guest.killedBy({ verb: "restore", snapshot: "first", discard: false, killAt });
    assert.deepEqual(await guest.holds(), second);
    await guest.checkHost();
    await guest.write("third");
    await guest.restore("before-restore-1");
    assert.deepEqual(await guest.holds(), second);
  });
});

describe("control that is killed while it removes a snapshot", () => {
  for (const point of ["moved", "removed"]) {
    it(`(${point}) leaves the others whole`, async () => {
      for (const name of ["second", "third"]) {
        await guest.write(name);
        await guest.take(name);
      }
      await guest.killedBy({ verb: "remove-snapshot", snapshot: "second", killAt: control(point) });
      await guest.checkHost();
      await guest.restore("third");
      assert.deepEqual(await guest.holds(), { ...first, disk: "third", memory: "third" });
      await guest.restore("first");
      assert.deepEqual(await guest.holds(), first);
    });
  }
});

describe("QEMU that is killed while a snapshot is taken", () => {
  for (const point of ["freeze-stopped", "freeze-disks", "freeze-running"]) {
    it(`(${point}) is a power cut: the disk has what was written`, async () => {
      await guest.write("second");
      const killAt = { what: "qemu", point, afterMs: 0 } as const;
      await guest.ask({ verb: "snapshot", snapshot: "second", killAt }).catch(() => undefined);
      await guest.world.afterKill("qemu");
      assert.equal((await guest.world.machine()).state, "stopped");
      await guest.checkHost();
      await guest.ask({ verb: "start" });
      assert.deepEqual(await guest.holds(), { disk: "second", memory: "", counter: "" });
    });
  }
});
