import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

let skep: Installation;

before(async () => {
  skep = await Installation.make(["debian-12"]);
  await skep.skep(["image", "build", "debian-12", "--arch", "aarch64"]); // by emulation: many minutes
});
after(() => skep[Symbol.asyncDispose]());

describe("Debian for another architecture, built and booted by emulation", () => {
  it("comes up with UEFI to ssh, whole", async () => {
    const shape = ["--image", "debian-12", "--arch", "aarch64", "--memory", "1G"];
    await skep.skep(["new", "arm", ...shape, "--start", "--wait", "--timeout", "15m"]);
    const run = async (...command: string[]) => (await skep.skep(["exec", "arm", "--", ...command])).stdout;
    assert.equal(await run("uname", "-m"), "aarch64\n");
    assert.match(await run("ls", "/sys/firmware/efi"), /runtime|config_table|systab/);
    assert.match(await run("cloud-init", "status", "--wait"), /status: done/);
    assert.equal(await run("systemctl", "is-system-running", "--wait"), "running\n");
    assert.match(await run("sudo", "cloud-init", "schema", "--system"), /^Valid/);
    const machine = await skep.machine("arm");
    assert.deepEqual([machine.firmware, machine.accelerator], ["uefi", "tcg"]);
    await skep.skep(["stop", "arm"]);
    assert.equal((await skep.machine("arm")).reason, null);
  });
});
