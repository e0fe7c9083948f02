import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { seeded } from "@skep/base/testing";
import { type Held, SnapshotGuest } from "./snapshot-guest.ts";
import type { Asked, KillAt } from "./state-process.ts";
import { freezePoints, resumePoints } from "./state-world.ts";

const rounds = Number(process.env.SKEP_KILL_ROUNDS ?? 60);
const seed = Number(process.env.SKEP_KILL_SEED ?? 7);
/** The death of a QEMU costs a boot of the guest. */
const qemuEvery = 5;
const longestMs = 400;
const copies = ["web-1", "web-2"];

/** What is done, and where it can be broken off; `second` is what is on the disk and in the memory then. */
const verbs: Record<string, { asked: Asked; points: readonly string[] }> = {
  "a snapshot with memory": {
    asked: { verb: "snapshot", snapshot: "second", memory: true },
    points: [...freezePoints, "stored", "recorded"],
  },
  "a snapshot of disks": {
    asked: { verb: "snapshot", snapshot: "second", memory: false },
    points: ["disks-held", "disks-stopped", "disks-layered", "disks-running", "stored", "recorded"],
  },
  "a restore": {
    asked: { verb: "restore", snapshot: "first", discard: true },
    points: ["prepared", "ended", "switched", ...resumePoints],
  },
  "a restore that keeps the present": {
    asked: { verb: "restore", snapshot: "first", discard: false },
    points: [...freezePoints, "stored", "recorded", "prepared", "ended", "switched", ...resumePoints],
  },
  "the removal of a snapshot": {
    asked: { verb: "remove-snapshot", snapshot: "middle" },
    points: ["moved", "removed"],
  },
  "a fork": {
    asked: { verb: "fork-many", count: copies.length },
    points: [...freezePoints, "fork-frozen", "fork-created", "fork-loaded", "fork-ready", "fork-all-ready"],
  },
};

let guest: SnapshotGuest;
let first: Held;
before(async () => {
  ({ guest, first } = await SnapshotGuest.withFirst());
});
after(() => guest?.[Symbol.asyncDispose]());

async function snapshotNames(): Promise<string[]> {
  return (await guest.list()).map(({ name }) => name);
}

/** Takes the copies away: all of them are there, or none. Gives whether they were. */
async function removeCopies(): Promise<boolean> {
  const names = await guest.ask<string[]>({ verb: "list" });
  const made = names.length > 1;
  assert.deepEqual(names, made ? ["web", ...copies] : ["web"]);
  for (const machine of made ? copies : []) await guest.ask({ verb: "remove", machine });
  const directories = await readdir(join(guest.home, "machines"));
  assert.deepEqual(directories, ["web"]);
  return made;
}

/** Layers that are there are those that the machine and its snapshots stand on. */
async function checkLayers(): Promise<void> {
  const { stdout } = await guest.world.skep.command("sh", [
    "-c",
    `cd "$SKEP_HOME" && cat machines/web/machine.json machines/web/snapshots/*.json layers/*.json`,
  ]);
  const names = await readdir(join(guest.home, "layers"));
  const unused = names.filter((name) => name.endsWith(".qcow2") && !stdout.includes(`layers/${name}`));
  assert.deepEqual(unused, []);
}

/** Whatever it is now, it runs; what it holds is what it was, what it was set back to, or the disk of one of both. */
async function checkHeld(allowed: readonly Held[]): Promise<void> {
  const { state } = await guest.world.machine();
  if (state === "suspended") await guest.ask({ verb: "resume" });
  const boots = state === "stopped";
  if (boots) await guest.ask({ verb: "start" });
  const held = await guest.holds();
  const wanted = allowed.map((one) => (boots ? booted(one) : one));
  assert.ok(
    wanted.some((one) => JSON.stringify(one) === JSON.stringify(held)),
    `${state}: ${JSON.stringify(held)} is none of ${JSON.stringify(wanted)}`,
  );
  if (held.counter !== "") await guest.countsOn();
}

const booted = ({ disk }: Held): Held => ({ disk, memory: "", counter: "" });

describe(`kill -9 at any moment of snapshots, restores and forks (seed ${seed})`, () => {
  const next = seeded(seed);
  const pick = <T>(list: readonly T[]): T => list[next(list.length)] as T;
  for (let round = 1; round <= rounds; round += 1) {
    const what = pick(Object.keys(verbs));
    const { asked, points } = verbs[what] as (typeof verbs)[string];
    const point = pick(points);
    const afterMs = next(10) < 4 ? 0 : next(longestMs);
    const ofQemu = round % qemuEvery === 0;
    const isCopys = ofQemu && ["fork-loaded", "fork-ready", "fork-all-ready"].includes(point);
    const victim: KillAt["what"] = isCopys ? "copy" : ofQemu ? "qemu" : "control";
    it(`round ${round}: ${victim} dies ${afterMs} ms after "${point}" of ${what}`, async () => {
      await guest.restore("first");
      for (const name of await snapshotNames()) if (name !== "first") await guest.remove(name);
      assert.deepEqual(await guest.holds(), first);
      if (asked.verb === "remove-snapshot") {
        await guest.write("middle");
        for (const name of ["middle", "last"]) await guest.take(name, name === "middle");
      }
      await guest.write("second");
      const second = { ...first, disk: "second", memory: "second" };

      const killAt = { what: victim, point, afterMs };
      // What was not killed in time has done its work; what was killed has failed, or never answers.
      await guest.world.ask({ ...asked, killAt } as Asked).catch(() => undefined);
      await guest.world.afterKill(victim === "control" ? "control" : "qemu");
      const made = await removeCopies();
      assert.ok(!made || asked.verb === "fork-many");
      await guest.checkHost();
      await checkLayers();

      await checkHeld(asked.verb === "restore" ? [second, first] : [second]);
      await guest.write("third"); // its disk takes what is written
      assert.equal((await guest.holds()).disk, "third");
      const names = await snapshotNames();
      for (const name of ["second", "middle", "before-restore-1"].filter((one) => names.includes(one))) {
        const { memory, problem } = (await guest.list()).find((one) => one.name === name) ?? {};
        assert.equal(problem, null);
        await guest.restore(name);
        const kept = name === "middle" ? { ...first, disk: "middle", memory: "middle" } : second;
        assert.deepEqual(await guest.holds(), memory == null ? booted(kept) : kept);
      }
      if (asked.verb === "remove-snapshot") {
        await guest.restore("last");
        assert.deepEqual(await guest.holds(), booted({ ...first, disk: "middle" }));
      }
      await guest.checkHost();
      await checkLayers();
    });
  }
});
