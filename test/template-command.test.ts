import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { Template } from "@skep/api";
import { Installation, type Result, root } from "./support.ts";

// What the command says and does; its templates are words in memory, and those of image "old" are outdated.
const env = { SKEP_SKEPD: join(root, "apps/skepd/src/test-daemon.ts") };

let installation: Installation;
before(async () => {
  installation = await Installation.make([]);
});
after(() => installation[Symbol.asyncDispose]());

function skep(args: readonly string[], status: number | null = 0): Promise<Result> {
  return installation.skep(args, { env, status });
}

describe("skep template", () => {
  it("builds one of the shape that is asked for, and prints its id for scripts", async () => {
    assert.match((await skep(["template", "ls"])).stderr, /no templates yet/);
    const built = await skep(["template", "build", "debian-12", "-c", "4", "-m", "1G", "-d", "20G"]);
    assert.equal(built.stdout, "st-00000000000000001\n");
    assert.match(built.stderr, /debian-12 is kept booted \(286 MiB of memory, 70 MiB stored\)/);
    const [template] = JSON.parse((await skep(["template", "ls", "--json"])).stdout) as Template[];
    const { cpus, memoryMiB, diskBytes } = template as Template;
    assert.deepEqual([cpus, memoryMiB, diskBytes], [4, 1024, 20 * 1024 ** 3]);
  });

  it("lists what is there, and why one is of no use", async () => {
    await skep(["template", "build", "old", "-q"]);
    const { stdout, stderr } = await skep(["template", "ls"]);
    assert.match(stdout, /^ID +IMAGE +CPUS +MEMORY +DISK +STATE/);
    assert.match(stdout, /^st-0+1 +debian-12 +4 +1 GiB +20 GiB +ready/m);
    assert.match(stderr, /^st-0+2: image old is another one now$/m);
    assert.equal((await skep(["template", "ls", "-q"])).stdout.trim().split("\n").length, 2);
  });

  it("removes those of no use, one by its id, and all of an image", async () => {
    const pruned = await skep(["template", "prune"]);
    assert.deepEqual([pruned.stdout, pruned.stderr], ["st-00000000000000002\n", "freed 70 MiB\n"]);
    assert.equal((await skep(["template", "rm", "debian-12"])).stdout, "st-00000000000000001\n");
    assert.match(
      (await skep(["template", "rm", "st-00000000000000001"], 1)).stderr,
      /there is no template "st-/,
    );
    assert.equal(
      (await skep(["template", "prune", "--all", "--json"])).stdout,
      '{"removed":[],"freedBytes":0}\n',
    );
  });

  it("refuses what it cannot mean", async () => {
    for (const [args, says] of [
      [["build", "-c", "0"], /cpus "0" is not a whole number above 0/],
      [["build", "-m", "1"], /memory "1" is too small/],
      [["build", "-d", "10"], /disk size "10" has no unit/],
      [["rm"], /missing required argument 'templates'/],
    ] as const) {
      assert.match((await skep(["template", ...args], 2)).stderr, says);
    }
  });

  it("is completed, and found in the list of verbs", async () => {
    assert.match((await skep(["completion", "bash"])).stdout, /'template'/);
    assert.match((await skep([])).stdout, /^ {2}template {2,}keep images booted/m);
  });
});
