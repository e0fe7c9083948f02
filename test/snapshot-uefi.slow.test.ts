import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

let skep: Installation;
before(async () => {
  skep = await Installation.make();
  await skep.skep([
    ...["new", "web", "--image", "tiny", "--uefi", "--memory", "192M", "--cpus", "1"],
    ...["--data-disk", "16M", "--start", "--wait"],
  ]);
});
after(() => skep[Symbol.asyncDispose]());

const variables = () => join(skep.home, "machines/web/efi-vars.fd");

async function sh(script: string): Promise<string> {
  return (await skep.skep(["exec", "web", "--", "sh", "-c", script])).stdout.trim();
}

/** As a boot menu's new order would, say. */
async function changeVariables(): Promise<void> {
  const bytes = await readFile(variables());
  bytes.writeUInt8(bytes.readUInt8(bytes.length - 1) ^ 0xff, bytes.length - 1);
  await writeFile(variables(), bytes);
}

describe("UEFI variables", () => {
  for (const memory of [true, false]) {
    it(`go back with a snapshot ${memory ? "with memory" : "of disks"}, and stay with the present one`, async () => {
      await skep.skep(["start", "web", "--wait"]);
      await sh("echo nonce >/nonce");
      const then = await readFile(variables());
      const name = memory ? "live" : "disks";
      await skep.skep(["snapshot", "create", "web", name, ...(memory ? [] : ["--no-memory"])]);
      assert.deepEqual(await readFile(join(skep.home, `machines/web/snapshots/${name}.efi-vars`)), then);
      await skep.skep(["stop", "web", "--force"]);
      await changeVariables();
      const since = await readFile(variables());
      await skep.skep(["snapshot", "restore", "web", name]);
      if (memory) assert.equal(await sh("cat /nonce"), "nonce");
      assert.deepEqual(await readFile(variables()), then);
      await skep.skep(["stop", "web", "--force"], { status: memory ? 0 : null });
      await skep.skep(["snapshot", "restore", "web", "before-restore-1", "--discard"]);
      assert.deepEqual(await readFile(variables()), since);
      await skep.skep(["snapshot", "rm", "web", name, "before-restore-1"]);
    });
  }

  it("are there for copies of the machine", async () => {
    await skep.skep(["start", "web", "--wait"]);
    const then = await readFile(variables());
    await skep.skep(["fork", "web", "copy"]);
    assert.deepEqual(await readFile(join(skep.home, "machines/copy/efi-vars.fd")), then);
    await skep.skep(["restart", "copy", "--force", "--wait"]);
    assert.match((await skep.skep(["exec", "copy", "ls", "/sys/firmware/efi"])).stdout, /systab|runtime/);
  });
});
