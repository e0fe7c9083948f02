import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { MachineSnapshot } from "@skep/api";
import { Installation, type Result, root } from "./support.ts";

// What the command says and does; machines and their snapshots are words in memory.
const env = { SKEP_SKEPD: join(root, "apps/skepd/src/test-daemon.ts") };

let installation: Installation;
before(async () => {
  installation = await Installation.make([]);
  await skep(["new", "web", "--no-user-keys"]);
  await skep(["start", "web"]);
});
after(() => installation[Symbol.asyncDispose]());

function skep(args: readonly string[], status: number | null = 0): Promise<Result> {
  return installation.skep(args, { env, status });
}

describe("skep snapshot", () => {
  it("says what was kept, beside the name for scripts", async () => {
    const none = await skep(["snapshot", "ls", "web"]);
    assert.match(none.stderr, /no snapshots of web yet; take one: skep snapshot create web/);
    const first = await skep(["snapshot", "create", "web", "first"]);
    assert.equal(first.stdout, "first\n");
    assert.match(first.stderr, /^snapshot first of web is taken: 64 MiB of memory, paused 12 ms$/m);
    const second = await skep(["snapshot", "create", "web", "--no-memory"]);
    assert.equal(second.stdout, "snapshot-2\n");
    assert.match(second.stderr, /is taken: without memory, its file systems held still, paused 12 ms$/m);
  });

  it("lists, draws and shows them", async () => {
    const list = await skep(["snapshot", "ls", "web"]);
    assert.match(list.stdout, /^NAME +WAS +MEMORY +STORED +AFTER +AGE\nfirst +running +64 MiB +2 KiB +- /);
    assert.match(
      (await skep(["snapshot", "tree", "web"])).stdout,
      /^first \(\w+ ago, with memory\)\n└─ snapshot-2 \(\w+ ago\) ← the machine goes on from here\n$/,
    );
    const shown = await skep(["snapshot", "show", "web", "snapshot-2"]);
    assert.match(
      shown.stdout,
      /^snapshot-2 \(the machine goes on from it\)\n {2}machine {2}web, which was running\n/,
    );
    const { stdout } = await skep(["snapshot", "ls", "web", "--json"]);
    assert.deepEqual(
      (JSON.parse(stdout) as MachineSnapshot[]).map(({ name, parent }) => [name, parent]),
      [
        ["first", null],
        ["snapshot-2", "first"],
      ],
    );
  });

  it("says how the machine came back, and where what it was is kept", async () => {
    const restored = await skep(["snapshot", "restore", "web", "first"]);
    assert.equal(restored.stdout, "web\n");
    assert.match(
      restored.stderr,
      /^web is set back to first and goes on where it was, after 1 ms\nwhat it was is kept: skep snapshot restore web before-restore-1$/m,
    );
    const cold = await skep(["snapshot", "restore", "web", "first", "--cold", "--discard", "--json"]);
    assert.deepEqual([JSON.parse(cold.stdout).how, JSON.parse(cold.stdout).kept], ["booted", null]);
  });

  it("removes several, and says what is not there", async () => {
    assert.equal(
      (await skep(["snapshot", "rm", "web", "snapshot-2", "before-restore-1"])).stdout,
      "snapshot-2\nbefore-restore-1\n",
    );
    assert.match((await skep(["snapshot", "show", "web", "gone"], 1)).stderr, /has no snapshot "gone"/);
    await skep(["snapshot", "create"], 2);
    await skep(["snapshot", "restore", "web"], 2);
  });

  it("tells what Ctrl-C does", async () => {
    const { status, stderr } = await installation.interrupted(["snapshot", "create", "web", "hang"], /./, {
      env,
    });
    assert.equal(status, 130);
    assert.match(stderr, /^taking snapshot hang of web\ncancelling; web is left as it was/);
    assert.equal((await skep(["snapshot", "ls", "web", "-q"])).stdout, "first\n");
  });
});
