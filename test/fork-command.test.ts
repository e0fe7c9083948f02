import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult } from "@skep/api";
import { Installation, type Result, root } from "./support.ts";

// What the command says and does; its copies are words in memory, and those of "hang" are never there.
const env = { SKEP_SKEPD: join(root, "apps/skepd/src/test-daemon.ts") };

let installation: Installation;
before(async () => {
  installation = await Installation.make([]);
  for (const name of ["web", "cold", "hang"]) await skep(["new", name, "--no-user-keys"]);
  await skep(["start", "web", "hang"]);
});
after(() => installation[Symbol.asyncDispose]());

function skep(args: readonly string[], status: number | null = 0): Promise<Result> {
  return installation.skep(args, { env, status });
}

describe("skep fork", () => {
  it("prints names for scripts, and beside them how to get into each copy, and the machine's pause", async () => {
    const { stdout, stderr } = await skep(["fork", "web", "-n", "2"]);
    assert.equal(stdout, "web-1\nweb-2\n");
    assert.match(stderr, /^web-1 is ready after 280 ms: ssh -p 20001 debian@127\.0\.0\.1$/m);
    assert.match(stderr, /^web stood still for 210 ms \(286 MiB of memory\)$/m);
    const quiet = await skep(["fork", "web", "copy", "-q"]);
    assert.deepEqual(quiet, { status: 0, stdout: "copy\n", stderr: "" });
  });

  it("gives programs the result as it is", async () => {
    const { stdout } = await skep(["fork", "web", "-n", "2", "--prefix", "t", "--json"]);
    const { source, copies } = JSON.parse(stdout) as ForkResult;
    assert.equal(source, "web");
    assert.deepEqual(
      copies.map(({ name, identity }) => [name, identity[0]?.outcome]),
      [
        ["t-1", "done"],
        ["t-2", "done"],
      ],
    );
  });

  it("refuses what it cannot mean, with the next step", async () => {
    for (const [args, says] of [
      [["fork"], /missing required argument 'name'/],
      [["fork", "web", "-n", "0"], /count "0" is not a whole number above 0/],
      [
        ["fork", "web", "a", "-n", "2"],
        /one name does for one copy\n {2}name several by a prefix: .* --prefix a/,
      ],
      [["fork", "web", "a", "--prefix", "b"], /one name does for one copy/],
      [["fork", "web", "-n", "100000"], /count/],
    ] as const) {
      assert.match((await skep(args, 2)).stderr, says);
    }
    assert.match((await skep(["fork", "cold"], 1)).stderr, /"cold" cannot be forked/);
    assert.match((await skep(["fork", "nobody"], 1)).stderr, /"nobody" does not exist/);
  });

  it("is undone by Ctrl-C", async () => {
    const { status, stderr } = await installation.interrupted(["fork", "hang", "-n", "2"], /./, { env });
    assert.equal(status, 130);
    assert.match(stderr, /^forking hang\ncancelling and undoing/);
  });

  it("is completed, and found in the list of verbs", async () => {
    const { stdout } = await skep(["completion", "bash"]);
    assert.match(stdout, /'fork'\) words='[^']*--no-identity[^']*'; kind=machines/);
    assert.match((await skep([])).stdout, /^ {2}fork {2,}copy a machine as it runs/m);
  });
});
