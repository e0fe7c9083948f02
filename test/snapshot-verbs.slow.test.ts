import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  const tiny = ["--image", "tiny", "--memory", "128M", "--cpus", "1", "--data-disk", "16M"];
  await skep.skep(["new", "web", ...tiny, "--start", "--wait"]);
  await skep.skep(["exec", "web", "--", "sh", "-c", "echo one >/text"]);
});
after(() => skep[Symbol.asyncDispose]());

async function names(): Promise<string> {
  return (await skep.skep(["snapshot", "ls", "web", "-q"])).stdout;
}

describe("two verbs on one machine at once", () => {
  it("come one after the other, or are refused", async () => {
    const take = (name: string) =>
      skep.skep(["snapshot", "create", "web", name, "--no-memory"], { status: null });
    const both = await Promise.all(["a", "a", "b"].map(take));
    assert.equal(both.filter(({ status }) => status === 0).length, 2);
    const errors = both.map(({ stderr }) => stderr).join("");
    assert.match(errors, /has a snapshot "a" already\n.*skep snapshot rm web a/);
    const [restored, removed, taken] = await Promise.all([
      skep.skep(["snapshot", "restore", "web", "a", "--discard"], { status: null }),
      skep.skep(["snapshot", "rm", "web", "a"], { status: null }),
      take("c"),
    ]);
    assert.deepEqual([taken.status, removed.status], [0, 0], taken.stderr + removed.stderr);
    assert.ok(restored.status === 0 || /has no snapshot "a"/.test(restored.stderr), restored.stderr);
    assert.deepEqual((await names()).trim().split("\n").sort(), ["b", "c"]);
    assert.equal((await skep.qemuPids()).length, 1);
  });
});

describe("Ctrl-C while a snapshot is taken", () => {
  it("leaves the machine running, and no snapshot", async () => {
    await skep.skep(["restart", "web", "--wait", "--force"]);
    await skep.skep([
      "exec",
      "web",
      "--",
      "sh",
      "-c",
      "echo one >/text; head -c 20M /dev/urandom >/fill; true",
    ]);
    const before_ = await names();
    const { status, stderr } = await skep.interrupted(
      ["snapshot", "create", "web", "never"],
      /memory of web/,
    );
    assert.equal(status, 130, stderr);
    assert.match(stderr, /cancelling; web is left as it was/);
    assert.equal((await skep.machine("web")).state, "running");
    assert.equal((await skep.skep(["exec", "web", "cat", "/text"])).stdout, "one\n");
    assert.equal(await names(), before_);
    assert.deepEqual(await readdir(join(skep.home, "states")), []);
  });
});
