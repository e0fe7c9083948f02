/** Guests whose helper or agent is there, and says nothing. */
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import type { ForkResult, MachineSnapshot } from "@skep/api";
import { eventually, Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  await skep.skep([
    ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
    ...["--data-disk", "16M", "--start", "--wait"],
  ]);
});
after(() => skep[Symbol.asyncDispose]());

async function sh(script: string): Promise<string> {
  return (await skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
}

/** Its agent stands still for some seconds of the guest's own time; meanwhile nothing can be said to it. */
async function stopAgent(seconds: number): Promise<void> {
  const mark = `stopped ${process.hrtime.bigint()}`;
  const agent = "$(pidof qemu-ga)";
  // Only once this has been answered.
  const stop = `sleep 1; kill -STOP ${agent}; echo ${mark} >/dev/console; sleep ${seconds}; kill -CONT ${agent}`;
  await sh(`(${stop}) >/dev/null 2>&1 &`);
  await eventually(
    async () => (await skep.skep(["logs", "web"])).stdout.includes(mark),
    () => "the agent was not stopped",
  );
}

/** Until its agent goes on, whatever else of the guest has answered before. */
async function agentAnswers(): Promise<void> {
  await eventually(
    async () => (await skep.skep(["exec", "web", "--", "true"], { status: null })).status === 0,
    () => "the agent does not go on",
  );
}

async function checkNothingLeft(): Promise<void> {
  const machines = await skep.machines();
  assert.deepEqual(
    machines.map(({ name, state }) => [name, state]),
    [["web", "running"]],
  );
  assert.deepEqual(await readdir(join(skep.home, "machines")), ["web"]);
  assert.deepEqual(await readdir(join(skep.home, "states")).catch(() => []), []);
  assert.equal((await skep.qemuPids()).length, 1);
}
afterEach(checkNothingLeft);

describe("a helper that hangs", () => {
  before(() => sh("kill -STOP $(pidof skep-helper)"));

  it("has its machine not forked, with the reason and what to do", async () => {
    const { stderr } = await skep.skep(["fork", "web", "-n", "2"], { status: 1 });
    assert.match(stderr, /machine "web" cannot be forked: its guest has no helper .*no answer within/);
    assert.match(stderr, /--no-identity/);
    assert.equal(await sh("echo answers"), "answers");
  });

  it("is not asked where copies are to be as they are", async () => {
    const { stdout } = await skep.skep(["fork", "web", "same", "--no-identity", "--json"]);
    assert.deepEqual((JSON.parse(stdout) as ForkResult).copies[0]?.identity, []);
    await skep.skep(["rm", "--force", "same"]);
  });

  it("does its work again once it goes on", async () => {
    await sh("kill -CONT $(pidof skep-helper)");
    await skep.skep(["fork", "web", "again"]);
    assert.equal((await skep.skep(["exec", "again", "hostname"])).stdout, "again\n");
    await skep.skep(["rm", "--force", "again"]);
  });
});

describe("an agent that hangs", () => {
  it("has its machine not suspended, for its hooks cannot be asked; it is without them", async () => {
    await sh("echo nonce >/nonce; mkdir -p /etc/skep/before-suspend.d");
    await stopAgent(75);
    const { stderr } = await skep.skep(["suspend", "web"], { status: 1 });
    assert.match(stderr, /"web".*hooks.*\n.*--no-hooks/);
    await checkNothingLeft();
    await skep.skep(["suspend", "web", "--no-hooks"]);
    assert.equal((await skep.machine("web")).state, "suspended");
    await skep.skep(["resume", "web", "--no-hooks"]);
    await agentAnswers();
    assert.equal(await sh("cat /nonce"), "nonce");
  });

  it("does not keep a snapshot from being taken, which says that file systems were not held", async () => {
    await stopAgent(30);
    const create = ["snapshot", "create", "web", "disks", "--no-memory", "--json"];
    const { stdout } = await skep.skep(create);
    assert.equal((JSON.parse(stdout) as MachineSnapshot).fileSystemsFrozen, false);
    await agentAnswers();
    assert.equal(await sh("cat /nonce"), "nonce");
    await skep.skep(["snapshot", "rm", "web", "disks"]);
  });

  it("has a fork that is like any other: identity needs no agent", async () => {
    await stopAgent(30);
    await skep.skep(["fork", "web", "copy"]);
    const { state } = await skep.machine("copy");
    assert.equal(state, "running");
    await agentAnswers();
    await skep.skep(["rm", "--force", "copy"]);
  });
});
