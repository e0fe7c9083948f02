import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { processStartTime } from "@skep/base";
import { noAgent, type TestAgent, testAgent } from "./agent-fixture.ts";
import { guestRun } from "./guest-run.ts";

describe("a program in a guest", { skip: noAgent }, () => {
  let fixture: TestAgent;
  let directory: string;
  before(async () => {
    fixture = await testAgent();
    directory = await mkdtemp("/tmp/skep-run-");
  });
  after(async () => {
    await fixture[Symbol.asyncDispose]();
    await rm(directory, { recursive: true, force: true });
  });

  const run = (script: string, timeoutMs = 60_000, signal = new AbortController().signal) =>
    guestRun(fixture.agent, ["/bin/sh", "-c", script], { timeoutMs, signal });

  /** Pids that a script has left in a file. */
  async function left(name: string): Promise<number[]> {
    const text = await readFile(join(directory, name), "utf8");
    return text.trim().split("\n").map(Number);
  }

  async function untilGone(pids: readonly number[]): Promise<void> {
    while (pids.some((pid) => processStartTime(pid) !== undefined)) await sleep(50);
  }

  it("gives its status, and what it printed on either stream", async () => {
    assert.deepEqual(await run("echo out; echo err >&2; exit 7"), { status: 7, output: "out\nerr" });
    assert.deepEqual(await run("true"), { status: 0, output: "" });
    assert.equal((await run("kill -TERM $$")).status, 143);
    const words = ["printf", "%s|", "a b", "'", '"$HOME"', ""];
    const limits = { timeoutMs: 60_000, signal: new AbortController().signal };
    assert.equal((await guestRun(fixture.agent, words, limits)).output, `a b|'|"$HOME"||`);
    assert.equal((await guestRun(fixture.agent, ["/no/such/program"], limits)).status, 127);
  });

  it("has a path, a home and no input, whatever the agent has", async () => {
    const { status, output } = await run('cat; echo "$PWD"; [ -n "$PATH" ] && [ -n "$HOME" ]');
    assert.deepEqual([status, output], [0, "/"]);
  });

  it("may print without end: the beginning is kept, and it never waits", async () => {
    const { status, output } = await run("yes hello | head -n 1000000; exit 3");
    assert.equal(status, 3);
    assert.ok(output.startsWith("hello\nhello\n") && output.length <= 8192);
  });

  it("is ended with all that it started when its time is over, and what it said is there", async () => {
    const pids = join(directory, "late");
    const script = `echo begun; sleep 4242 & echo $! >${pids}; trap '' TERM; echo $$ >>${pids}; while :; do sleep 1; done`;
    assert.deepEqual(await run(script, 1000), { status: null, output: "begun" });
    await untilGone(await left("late"));
  });

  it("is ended when whoever asked has gone", async () => {
    const abort = new AbortController();
    const pids = join(directory, "cancelled");
    const running = run(`echo $$ >${pids}; sleep 4242`, 60_000, abort.signal);
    while ((await left("cancelled").catch(() => [])).length === 0) await sleep(50);
    abort.abort();
    await assert.rejects(running);
    await untilGone(await left("cancelled"));
  });

  it("may leave something running that has closed its output", async () => {
    const pids = join(directory, "daemon");
    assert.equal((await run(`sleep 4242 >/dev/null 2>&1 & echo $! >${pids}`)).status, 0);
    const [pid = 0] = await left("daemon");
    assert.notEqual(processStartTime(pid), undefined);
    process.kill(pid);
  });
});
