import assert from "node:assert/strict";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult } from "@skep/api";
import { eventually, Installation, root } from "./support.ts";

const skepCommand = join(root, "skep");
let skep: Installation;
before(async () => {
  skep = await Installation.make();
  // On a host that is busy with other tests, a guest's first look at its timer may find it standing.
  const patient = ["--kernel-args", "no_timer_check", "--start", "--wait"];
  await skep.skep(["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1", ...patient]);
});
after(() => skep[Symbol.asyncDispose]());

const names = async () => (await skep.machines()).map(({ name }) => name);
const run = (line: string, args: readonly string[] = [], status: number | null = 0) =>
  skep.skep(["fork", "web", "-n", "2", "--run", line, ...args], { status });
const sorted = (output: string) => output.trim().split("\n").sort();

async function checkNothingLeft(): Promise<void> {
  assert.deepEqual(await names(), ["web"]);
  assert.equal((await skep.qemuPids()).length, 1);
}

describe("skep fork --run", () => {
  it("runs a command on each copy, which knows which of how many it is, ends with the worst status, and removes the copies", async () => {
    const line = 'echo "$SKEP_INDEX of $SKEP_TOTAL"; hostname; echo oops >&2; exit $((SKEP_INDEX * 3))';
    const { stdout, stderr } = await run(line, [], 6);
    assert.deepEqual(sorted(stdout), ["web-1 | 1 of 2", "web-1 | web-1", "web-2 | 2 of 2", "web-2 | web-2"]);
    assert.match(stderr, /^web-1 \| oops$/m);
    assert.match(stderr, /^web-2 \| oops$/m);
    assert.match(stderr, /^web-1: ended with status 3$/m);
    assert.match(stderr, /^web-2: ended with status 6$/m);
    await checkNothingLeft();
  });

  it("gives programs all of it, and leaves the copies where that is asked for", async () => {
    const { stdout } = await run("echo $SKEP_INDEX; exit 1", ["--keep", "--json"], 1);
    const { copies, runs, kept } = JSON.parse(stdout) as ForkResult & { runs: unknown; kept: boolean };
    assert.deepEqual(
      copies.map(({ name }) => name),
      ["web-1", "web-2"],
    );
    const one = (index: number) => ({
      name: `web-${index}`,
      index,
      status: 1,
      stdout: `${index}\n`,
      stderr: "",
    });
    assert.deepEqual([runs, kept], [[one(1), one(2)], true]);
    assert.deepEqual(await names(), ["web", "web-1", "web-2"]);
    await skep.skep(["rm", "--force", "web-1", "web-2"]);
  });

  it("refuses what it cannot mean before anything is copied", async () => {
    assert.match((await run(" ", [], 2)).stderr, /--run needs a command/);
    const { stderr } = await skep.skep(["fork", "web", "--keep"], { status: 2 });
    assert.match(stderr, /--keep goes with --run/);
    await checkNothingLeft();
  });

  for (const [how, end, expected] of [
    ["Ctrl-C", "SIGINT", 130],
    ["SIGTERM", "SIGTERM", 143],
  ] as const) {
    it(`ends the commands at ${how}, and removes the copies`, async () => {
      const child = skep.spawn(["fork", "web", "-n", "2", "--run", "echo begun; exec sleep 1000"]);
      let stdout = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text;
      });
      await eventually(
        () => stdout.split("begun").length === 3,
        () => `not begun: ${stdout}`,
      );
      child.kill(end);
      const [status] = await once(child, "close");
      assert.equal(status, expected);
      await checkNothingLeft();
    });
  }

  it("leaves alone what has the name of a copy by then, and is another machine", async () => {
    const child = skep.spawn(["fork", "web", "-n", "2", "--run", "echo begun; sleep 1000"]);
    let stdout = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      stdout += text;
    });
    await eventually(
      () => stdout.split("begun").length === 3,
      () => `not begun: ${stdout}`,
    );
    await skep.skep(["rm", "--force", "web-1"]);
    await skep.skep(["new", "web-1", "--image", "tiny", "--memory", "96M", "--cpus", "1"]);
    child.kill("SIGINT");
    await once(child, "close");
    assert.deepEqual(await names(), ["web", "web-1"]);
    await skep.skep(["rm", "web-1"]);
    await checkNothingLeft();
  });

  it("ends when nobody reads any more, and removes the copies", async () => {
    const { stdout } = await skep.command("sh", [
      "-c",
      '"$0" fork web -n 2 --run "while echo y; do :; done" | head -n 1',
      skepCommand,
    ]);
    assert.match(stdout, /^web-[12] \| y\n$/);
    await eventually(
      async () => (await names()).length === 1,
      () => "copies are left",
    );
    await checkNothingLeft();
  });
});
