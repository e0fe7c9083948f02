import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { seeded } from "@skep/base/testing";
import { freezePoints, killed, StateWorld } from "./state-world.ts";

const forkPoints = ["fork-frozen", "fork-created", "fork-loaded", "fork-ready", "fork-all-ready"];
const copies = ["web-1", "web-2"];
const seed = Number(process.env.SKEP_TEST_SEED ?? 1);
const runs = 20;
/** All of a fork of a tiny guest, and some more. */
const longestMs = 4000;

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

/** All copies are there and run, or none is and nothing of them; the machine itself runs on either way. */
async function checkAllOrNone(): Promise<"all" | "none"> {
  const names = (await world.ask<string[]>({ verb: "list" })) as string[];
  const whole = names.length > 1;
  assert.deepEqual(names, whole ? ["web", ...copies] : ["web"]);
  const directories = await readdir(join(world.skep.home, "machines"));
  assert.deepEqual(
    directories.filter((name) => !names.includes(name)),
    [],
  );
  if (whole) {
    assert.equal((await world.skep.qemuPids()).length, 3);
    for (const name of copies) {
      assert.equal(await world.ask({ verb: "exec", script: "hostname", machine: name }), name);
      await world.ask({ verb: "remove", machine: name });
    }
  }
  assert.equal((await world.machine()).state, "running");
  await world.checkMarks();
  await world.checkNothingLeft();
  return whole ? "all" : "none";
}

/** A slice of the guest's, as systemd has them, with a process in it; what holds it still does so in all of it. */
const slice = "/sys/fs/cgroup/system.slice";

describe("services that are held while a machine is copied", () => {
  before(async () => {
    await world.sh(`mount -t cgroup2 none /sys/fs/cgroup; mkdir ${slice}`);
    await world.sh(`(echo 0 >${slice}/cgroup.procs; while :; do sleep 1; done) >/dev/null 2>&1 &`);
  });
  after(() => world.sh("umount /sys/fs/cgroup"));

  for (const point of ["freeze-held", "freeze-stopped", "freeze-running"]) {
    it(`go on with the next control process, when the last one was killed (${point})`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "fork-many", count: 1, killAt }), killed);
      const { runtime } = world.skep;
      const [held] = (await readdir(runtime, { recursive: true })).filter((path) =>
        /\/services-held$/.test(path),
      );
      assert.ok(held !== undefined, "they were not held");
      await world.open();
      assert.equal(await world.sh(`cat ${slice}/cgroup.freeze`), "0");
      assert.ok(!(await readdir(runtime, { recursive: true })).includes(held));
      await world.checkMarks();
    });
  }
});

describe("control that is killed while copies are made", () => {
  for (const point of [...freezePoints, ...forkPoints, "fork-finished"]) {
    it(`(${point}) leaves all of them or none, and the machine running`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "fork-many", count: copies.length, killAt }), killed);
      await world.open();
      assert.equal(await checkAllOrNone(), point === "fork-finished" ? "all" : "none");
    });
  }

  it(`at any moment (seed ${seed}, ${runs} runs) does so, too`, async () => {
    const next = seeded(seed);
    for (let run = 0; run < runs; run += 1) {
      const killAt = { what: "control", point: "freeze-copied", afterMs: 1 + next(longestMs) } as const;
      const answer = await world.ask({ verb: "fork-many", count: copies.length, killAt });
      if (answer !== killed) await world.afterKill("control");
      else await world.open();
      await checkAllOrNone();
    }
  });
});
