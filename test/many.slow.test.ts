import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, Installation } from "./support.ts";

const count = 20;
const names = Array.from({ length: count }, (_, index) => `m${index + 1}`);
let skep: Installation;

before(async () => {
  skep = await Installation.make();
});
after(() => skep[Symbol.asyncDispose]());

describe(`${count} machines at once`, () => {
  it("run, each answering for itself", async () => {
    for (const name of names)
      await skep.skep(["new", name, "--image", "tiny", "--memory", "128M", "--cpus", "1", "--start"]);
    for (const name of names) await skep.skep(["start", name, "--wait"]);
    assert.equal((await skep.qemuPids()).length, count);
    const hostnames = await Promise.all(
      names.map(async (name) => (await skep.skep(["exec", name, "--", "hostname"])).stdout.trim()),
    );
    assert.deepEqual(hostnames, names);
    const machines = await skep.machines();
    assert.equal(new Set(machines.map(({ mac }) => mac)).size, count);
  });

  it("are not harmed by kill -9 of skepd under load, again and again", async () => {
    const pids = (await skep.qemuPids()).sort();
    for (let round = 0; round < 10; round += 1) {
      const load = names.map((name) =>
        skep.skep(["exec", name, "--", "sh", "-c", "echo $(hostname)"], { status: null }),
      );
      await sleep(round * 60); // a different moment each time
      await skep.killDaemon();
      await Promise.all(load);
      const machines = await skep.machines();
      assert.deepEqual(machines.filter(({ state }) => state === "running").length, count);
      assert.deepEqual((await skep.qemuPids()).sort(), pids);
    }
    for (const name of names)
      assert.equal((await skep.skep(["exec", name, "--", "hostname"])).stdout.trim(), name);
  });

  it("stop together and leave nothing", async () => {
    await skep.skep(["rm", "--force", ...names]);
    await eventually(
      async () => (await skep.qemuPids()).length === 0,
      () => "a QEMU is left",
    );
    assert.deepEqual(await skep.machines(), []);
  });
});
