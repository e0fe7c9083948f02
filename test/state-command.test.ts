import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ResumeResult, SuspendResult } from "@skep/api";
import { Terminal } from "./pty.ts";
import { Installation, type Result, root } from "./support.ts";

// What the command says and does; machines are words in memory, whose suspend can be made to hang.
const env = { SKEP_SKEPD: join(root, "apps/skepd/src/test-daemon.ts") };

let installation: Installation;
before(async () => {
  installation = await Installation.make([]);
  for (const name of ["a", "b", "hang"]) await skep(["new", name, "--no-user-keys"]);
  await skep(["start", "--all"]);
});
after(() => installation[Symbol.asyncDispose]());

function skep(args: readonly string[], status: number | null = 0): Promise<Result> {
  return installation.skep(args, { env, status });
}

async function stateOf(name: string): Promise<string> {
  return (await skep(["status", "-q", name])).stdout.trim();
}

describe("skep suspend and resume", () => {
  it("print names for scripts, and a line on each machine beside them", async () => {
    const suspended = await skep(["suspend", "a", "b"]);
    assert.equal(suspended.stdout, "a\nb\n");
    for (const name of ["a", "b"])
      assert.match(
        suspended.stderr,
        new RegExp(`^${name} is suspended: 64 MiB of memory, 1 KiB stored, paused 1 ms$`, "m"),
      );
    assert.match((await skep(["status", "a"])).stdout, /^ {2}suspended {2}\w+ ago: 64 MiB of memory/m);
    const resumed = await skep(["resume", "--all"]);
    assert.equal(resumed.stdout, "a\nb\n");
    assert.match(resumed.stderr, /^a goes on where it was, after 1 ms$/m);
    assert.match((await skep(["resume", "a"])).stderr, /^a runs already$/m);
  });

  it("give programs one object for one machine, a list for more, and names alone with -q", async () => {
    const one = JSON.parse((await skep(["suspend", "a", "--json"])).stdout) as SuspendResult;
    assert.deepEqual([one.machine.name, one.machine.suspended?.storedBytes], ["a", 1024]);
    assert.deepEqual(await skep(["suspend", "b", "-q"]), { status: 0, stdout: "b\n", stderr: "" });
    const both = JSON.parse((await skep(["resume", "a", "b", "--json"])).stdout) as ResumeResult[];
    assert.deepEqual(
      both.map(({ machine, how }) => [machine.name, how]),
      [
        ["a", "resumed"],
        ["b", "resumed"],
      ],
    );
  });

  it("show a person the lines, once", async () => {
    await using terminal = new Terminal(installation, ["suspend", "a"], undefined, env);
    await terminal.until(/a is suspended: 64 MiB of memory/);
    assert.equal(await terminal.status, 0);
    assert.ok(!terminal.shows(/^a\r$/m));
    assert.match((await skep(["start", "a"])).stderr, /^a is resumed: it goes on where it was/m);
  });

  it("say what is wrong, with the next step and status 1; the others still happen", async () => {
    await skep(["stop", "b"]);
    const { stdout, stderr } = await skep(["suspend", "a", "b"], 1);
    assert.equal(stdout, "a\n");
    assert.match(stderr, /machine "b" is not running/);
    assert.equal(await stateOf("a"), "suspended");
    await skep(["resume", "a", "--cold"]);
    await skep(["start", "b"]);
    const usage = await skep(["suspend"], 2);
    assert.match(usage.stderr, /skep suspend needs a machine's name, or --all/);
    await skep(["resume", "a", "--warm"], 2);
  });

  it("take those of --all that it concerns; stop --all leaves the sleeping alone", async () => {
    await skep(["suspend", "a"]);
    assert.equal((await skep(["stop", "--all"])).stdout, "b\nhang\n");
    assert.equal(await stateOf("a"), "suspended");
    assert.equal((await skep(["suspend", "--all"])).stdout, "");
    assert.equal((await skep(["start", "--all", "-q"])).stdout, "a\nb\nhang\n");
  });

  it("are completed, and found in the list of verbs", async () => {
    const { stdout } = await skep(["completion", "bash"]);
    assert.match(stdout, /'resume'\) words='[^']*--cold[^']*'; kind=machines/);
    assert.match(stdout, /'suspend'\) words='[^']*--all[^']*'; kind=machines/);
    assert.match((await skep([])).stdout, /^ {2}suspend .*\n {2}resume /m);
  });

  it("Ctrl-C while a machine is being suspended leaves it running", async () => {
    const { status, stderr } = await installation.interrupted(["suspend", "hang"], /./, { env });
    assert.equal(status, 130);
    assert.match(stderr, /^storing the memory of hang\ncancelling; hang runs on unless/);
    assert.equal(await stateOf("hang"), "running");
  });
});
