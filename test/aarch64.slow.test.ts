import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Installation } from "./support.ts";

let skep: Installation;

before(async () => {
  skep = await Installation.make([]);
  await skep.skep(["image", "build", "tiny", "--arch", "aarch64"]);
});
after(() => skep[Symbol.asyncDispose]());

describe("a machine of another architecture", () => {
  it("boots emulated, with UEFI and variables of its own", async () => {
    await skep.skep([
      "new",
      "arm",
      "--image",
      "tiny",
      "--arch",
      "aarch64",
      "--memory",
      "512M",
      "--start",
      "--wait",
    ]);
    assert.equal((await skep.skep(["exec", "arm", "--", "uname", "-m"])).stdout, "aarch64\n");
    const efi = await skep.skep(["exec", "arm", "--", "ls", "/sys/firmware/efi"]);
    assert.match(efi.stdout, /runtime|config_table|systab/);
    const machine = await skep.machine("arm");
    assert.deepEqual([machine.firmware, machine.accelerator], ["uefi", "tcg"]);
    await skep.skep(["stop", "arm"]);
    assert.equal((await skep.machine("arm")).reason, null);
  });
});

describe("UEFI on x86-64", () => {
  it("is there on request", async () => {
    await skep.skep(["image", "build", "tiny"]);
    await skep.skep(["new", "x", "--image", "tiny", "--uefi", "--start", "--wait"]);
    const efi = await skep.skep(["exec", "x", "--", "ls", "/sys/firmware/efi"]);
    assert.match(efi.stdout, /runtime|config_table|systab/);
  });
});
