import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Machine, Template } from "@skep/api/schemas";
import { seeded } from "@skep/base/testing";
import { freezePoints, killed, StateWorld } from "./state-world.ts";

const buildPoints = [
  "template-created",
  "template-started",
  "template-settled",
  ...freezePoints,
  "template-packed",
  "template-written",
];
const beginPoints = ["warm-begun", "fork-loaded", "fork-ready", "warm-ready"];
const seed = Number(process.env.SKEP_TEST_SEED ?? 1);
const runs = 25;
/** All of it on a tiny guest, and some more. */
const longestMs = { build: 20_000, begin: 3000 };

let world: StateWorld;
before(async () => {
  world = await StateWorld.make();
});
after(() => world[Symbol.asyncDispose]());

const next = seeded(seed);

async function templates(): Promise<Template[]> {
  return (await world.ask<Template[]>({ verb: "templates" })) as Template[];
}

/** On this host is exactly what the templates want, and the machines that are named. */
async function checkNothingLeft(machines: readonly string[], qemus = 0): Promise<Template[]> {
  const all = await templates();
  const ids = all.map(({ id }) => id);
  assert.deepEqual((await readdir(join(world.skep.home, "states")).catch(() => [])).sort(), ids.sort());
  for (const id of await world.frozen()) assert.ok(ids.includes(id), `${id} is left in /dev/shm`);
  assert.deepEqual(await readdir(join(world.skep.home, "layers")).catch(() => []), []);
  assert.deepEqual(await readdir(join(world.skep.home, "machines")), machines);
  assert.equal((await world.skep.qemuPids()).length, qemus);
  return all;
}

async function removeAll(): Promise<void> {
  for (const { id } of await templates()) await world.ask({ verb: "remove-template", id });
  await checkNothingLeft([]);
}

describe("control that is killed while a template is built", () => {
  for (const point of buildPoints) {
    it(`(${point}) leaves all of it or nothing`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "template", killAt }), killed);
      await world.open();
      const all = await checkNothingLeft([]);
      assert.equal(all.length, point === "template-written" ? 1 : 0);
      await removeAll();
    });
  }

  it(`at any moment (seed ${seed}, ${runs} runs) does so, too`, async () => {
    for (let run = 0; run < runs; run += 1) {
      const killAt = {
        what: "control",
        point: "template-created",
        afterMs: 1 + next(longestMs.build),
      } as const;
      if ((await world.ask({ verb: "template", killAt })) === killed) await world.open();
      else await world.afterKill("control");
      await checkNothingLeft([]);
      await removeAll();
    }
  });
});

describe("control that is killed while a machine begins from a template", () => {
  let boot: string;
  const machine = "one";
  const sh = (script: string) => world.ask<string>({ verb: "exec", script, machine });
  const remove = () => world.ask({ verb: "remove", machine });
  before(async () => {
    await world.ask({ verb: "template" });
    await world.ask({ verb: "begin", machine });
    boot = (await sh("dmesg | head -n 60 | md5sum")) as string;
    await remove();
  });

  /** It runs as a whole, or was never started; then it begins there again. */
  async function checkBegun(): Promise<void> {
    const { state: is } = (await world.ask<Machine>({ verb: "get", machine })) as Machine;
    assert.ok(is === "running" || is === "stopped", is);
    await checkNothingLeft([machine], is === "running" ? 1 : 0);
    if (is === "stopped") await world.ask({ verb: "start", machine });
    assert.equal(await sh("dmesg | head -n 60 | md5sum; hostname"), `${boot}\n${machine}`);
    await remove();
    await checkNothingLeft([]);
  }

  for (const point of beginPoints) {
    it(`(${point}) leaves one that was never started, and begins there again`, async () => {
      const killAt = { what: "control", point, afterMs: 0 } as const;
      assert.equal(await world.ask({ verb: "begin", machine, killAt }), killed);
      await world.open();
      assert.equal(((await world.ask<Machine>({ verb: "get", machine })) as Machine).state, "stopped");
      await checkBegun();
    });
  }

  it(`at any moment (seed ${seed}, ${runs} runs) leaves that, or one that runs`, async () => {
    for (let run = 0; run < runs; run += 1) {
      const killAt = { what: "control", point: "warm-begun", afterMs: 1 + next(longestMs.begin) } as const;
      if ((await world.ask({ verb: "begin", machine, killAt })) === killed) await world.open();
      else await world.afterKill("control");
      await checkBegun();
    }
  });

  it("boots where QEMU is killed", async () => {
    const killAt = { what: "qemu", point: "fork-loaded", afterMs: 0 } as const;
    const begun = await world.ask<Machine>({ verb: "begin", machine, killAt });
    assert.ok(begun !== killed);
    assert.notEqual(await sh("dmesg | head -n 60 | md5sum"), boot);
    assert.equal(await sh("hostname"), machine);
    await remove();
  });
});
