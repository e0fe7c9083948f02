import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type HostRecord, readManifest, statePaths, writeManifest } from "@skep/arks";
import { run, type SkepError } from "@skep/base";
import { StateWorld } from "./state-world.ts";

let world: StateWorld;
before(async () => {
  world = await StateWorld.withMachine();
});
after(() => world[Symbol.asyncDispose]());

/** Says of the saved state that it was made on another host, as if it had been. Gives back what mends it. */
async function alterHost(change: (host: HostRecord) => void): Promise<() => Promise<void>> {
  const { suspended } = await world.machine();
  const directory = join(world.skep.home, "states", suspended?.state ?? "");
  const { manifest: path } = statePaths(directory);
  const file = join(world.skep.home, "machines/web/machine.json");
  const [state, machine] = [await readFile(path, "utf8"), await readFile(file, "utf8")];
  const { manifest } = await readManifest(directory);
  change(manifest.host);
  await rm(path);
  const digest = await writeManifest(directory, manifest);
  const record = JSON.parse(machine);
  record.suspended.digest = digest;
  await writeFile(file, JSON.stringify(record));
  return async () => {
    await writeFile(path, state);
    await writeFile(file, machine);
  };
}

describe("a state that does not fit", () => {
  for (const [what, change, says] of [
    ["CPU features", (host) => host.cpuFeatures.push("zzz-feature"), /zzz-feature missing/],
    ["QEMU", (host) => Object.assign(host, { qemu: "6.2.0" }), /QEMU 6\.2\.0, and here is /],
    ["accelerator", (host) => Object.assign(host, { accelerator: "kvm" }), /accelerator kvm/],
  ] as [string, (host: HostRecord) => void, RegExp][]) {
    it(`(other ${what}) is refused with the difference, and stays as it is`, async () => {
      await world.ask({ verb: "suspend" });
      const mend = await alterHost(change);
      await world.reopen();
      await assert.rejects(world.ask({ verb: "resume" }), (error: SkepError) => {
        assert.equal(error.code, "STATE_MISFIT", error.message);
        assert.match(error.message, says);
        return true;
      });
      await world.checkNothingLeft();
      await mend();
      await world.reopen();
      assert.equal(await world.wake(), "suspended");
      await world.checkMarks();
    });
  }
});

describe("a disk that another program has open", () => {
  it("is no reason to give a machine's memory up: it sleeps on, also where it was to be given up, and is resumed later", async () => {
    await world.ask({ verb: "suspend" });
    const other = spawn("qemu-io", [join(world.skep.home, "machines/web/data-0.qcow2")]);
    const closed = once(other, "close");
    await once(other.stdout, "data");
    try {
      for (const cold of [false, true]) {
        await assert.rejects(world.ask({ verb: "resume", cold }), /write.* lock/);
        assert.equal((await world.machine()).state, "suspended");
        await world.checkNothingLeft();
      }
    } finally {
      other.stdin.end();
      await closed;
    }
    await world.ask({ verb: "resume" });
    await world.checkMarks();
  });
});

describe("a disk that is full", { skip: process.getuid?.() === 0 ? false : "only root may mount" }, () => {
  it("before the guest is stopped, or while its memory is written, leaves it running", async () => {
    const states = join(world.skep.home, "states");
    await mkdir(states, { recursive: true });
    for (const [size, code] of [
      ["8M", "STATE_DISK_SHORT"],
      ["72M", "STATE_UNSAVED"],
    ] as const) {
      await run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "none", states]);
      try {
        await assert.rejects(world.ask({ verb: "suspend", fill: join(states, "ballast") }), { code });
        assert.equal((await world.machine()).state, "running");
        assert.deepEqual(
          (await readdir(states)).filter((name) => name !== "ballast"),
          [],
        );
      } finally {
        await run("umount", [states]);
      }
      await world.checkMarks();
    }
  });
});

describe("a damaged state", () => {
  it("is refused, stays, and is given up only by cold, which boots from the disk", async () => {
    await world.ask({ verb: "suspend" });
    const { suspended } = await world.machine();
    const pack = join(world.skep.home, "states", suspended?.state ?? "", "memory.pack");
    const bytes = await readFile(pack);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
    await writeFile(pack, bytes);
    await world.skep.forgetKeptMemory();
    await assert.rejects(world.ask({ verb: "resume" }), { code: "STATE_DAMAGED" });
    await assert.rejects(world.ask({ verb: "start" }), { code: "MACHINE_SUSPENDED" });
    await world.checkNothingLeft();
    assert.equal((await world.machine()).state, "suspended");
    await world.ask({ verb: "resume", cold: true });
    await world.checkDisk();
    await world.checkNothingLeft();
    await assert.rejects(world.checkMarks());
    await world.leaveMarks();
  });
});

describe("a machine that is removed while it sleeps", () => {
  it("leaves nothing of its state", async () => {
    await world.ask({ verb: "suspend" });
    await world.ask({ verb: "remove" });
    assert.deepEqual(await readdir(join(world.skep.home, "states")), []);
  });
});
