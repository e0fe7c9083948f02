import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult, MachineSnapshotRestored } from "@skep/api";
import { bootDisk } from "./machine-volumes.ts";
import { eventually } from "./support.ts";
import { findDisk, VolumeGuest } from "./volume-states.ts";

let guest: VolumeGuest;
before(async () => {
  guest = await VolumeGuest.make();
});
after(() => guest?.[Symbol.asyncDispose]());

const skep = (...args: string[]) => guest.skep.skep(args);
const all = (text: string) => [text, text, text];
const booted = (text: string) => [text, text, "none"];

describe("a snapshot of a machine with a volume", () => {
  it("is of the very instant of the memory, while the guest writes without end", async () => {
    // What it reads back is always what it wrote last.
    const writer = `n=0; while :; do
        printf '%-8d' $n | dd of=$d bs=8 seek=512 conv=notrunc,fsync 2>/dev/null
        have=$(dd if=$d bs=8 skip=512 count=1 2>/dev/null)
        [ $have -eq $n ] || echo $have $n >>/mismatch
        n=$((n + 1)); echo $n >/told.new; mv /told.new /told
      done`;
    const told = async () => Number(await guest.sh("web", "cat /told 2>/dev/null || echo 0"));
    const writesOn = async (from: number) =>
      await eventually(
        async () => (await told()) > from + 3,
        () => "the guest does not write",
      );
    await guest.sh("web", `${findDisk}; (${writer}) >/dev/null 2>&1 & echo $! >/writer`);
    await writesOn(0);
    await guest.take("busy");
    await writesOn(await told());
    await guest.restore("busy", "--discard");
    await writesOn(await told());
    assert.equal(
      await guest.sh("web", "kill $(cat /writer); cat /mismatch 2>/dev/null || echo none"),
      "none",
    );
    await skep("snapshot", "rm", "web", "busy");
  });

  it("without memory, and of a machine that is stopped or suspended, has the volume too", async () => {
    await guest.write("disks");
    await guest.take("disks", "--no-memory");
    await guest.write("asleep");
    await skep("suspend", "web");
    assert.equal((await guest.take("asleep")).state, "suspended");
    await skep("resume", "web");
    await guest.write("rests");
    await skep("stop", "web", "--force");
    await guest.take("stopped");
    assert.equal((await guest.restore("disks", "--discard")).how, "stopped");
    await skep("start", "web", "--wait");
    assert.deepEqual(await guest.holds(), booted("disks"));
    assert.equal((await guest.restore("asleep", "--discard")).how, "suspended");
    await skep("resume", "web");
    assert.deepEqual(await guest.holds(), all("asleep"));
    await skep("stop", "web", "--force");
    await guest.restore("stopped", "--discard");
    await skep("start", "web", "--wait");
    assert.deepEqual(await guest.holds(), booted("rests"));
    await guest.host.vol(["snapshot", "data", "--name", "mine"]);
    await skep("snapshot", "rm", "web", "disks", "asleep", "stopped");
    assert.deepEqual(await guest.ofVolume(), ["mine"]);
    await guest.host.vol(["snapshot", "rm", "data@mine"]);
    await guest.checkClean();
  });

  it("is refused where the volume was detached since, and all is as it was", async () => {
    await guest.write("now");
    await guest.take("with");
    await guest.host.vol(["detach", "data"]);
    await guest.take("without");
    assert.match(await guest.refusal("snapshot", "restore", "web", "with"), /it had volume vol-.* no more/);
    await guest.host.vol(["attach", "data", "web"]);
    assert.match(await guest.refusal("snapshot", "restore", "web", "without"), /it got volume vol-.* since/);
    await eventually(
      async () => (await guest.holds())[0] === "now",
      () => "the guest does not see its volume again",
    );
    await skep("snapshot", "rm", "web", "with", "without");
    await guest.checkClean();
  });
});

describe("copies of a machine with a volume", () => {
  const copies = ["web-1", "web-2"];

  it("have their clones after a boot of their own, and keep them when they are removed", async () => {
    await guest.fork("-n", "2");
    for (const name of copies) await guest.write(name, name);
    await skep("stop", "--force", "web-1");
    await skep("start", "web-1", "--wait");
    assert.deepEqual(await guest.holds("web-1"), booted("web-1"));
    await skep("rm", "--force", ...copies);
    assert.equal((await guest.ofVolume()).length, 1);
    await guest.host.vol(["rm", "web-1-data"]);
    assert.equal((await guest.ofVolume()).length, 1);
    await guest.host.vol(["rm", "web-2-data"]);
    await guest.checkClean();
  });

  it("that only run a command take their clones with them", async () => {
    await guest.write("runs");
    const { stdout } = await skep("fork", "web", "-n", "2", "--run", `${findDisk}; head -c 4 $d`);
    assert.equal(stdout.match(/runs/g)?.length, 2, stdout);
    await guest.checkClean();
  });

  it("of one that is suspended have its volume as it fell asleep", async () => {
    await guest.write("sleepy");
    await skep("suspend", "web");
    await guest.fork("dream");
    assert.deepEqual(await guest.holds("dream"), all("sleepy"));
    await skep("rm", "--force", "dream");
    await guest.host.vol(["rm", "dream-data"]);
    await skep("resume", "web");
    assert.deepEqual(await guest.holds(), all("sleepy"));
    await guest.checkClean();
  });
});

describe("a machine whose root disk is a volume", () => {
  it("is set back, and copied, with it; what is the copy's own goes with the copy", async () => {
    const disk = join(guest.skep.home, "raw.raw");
    await writeFile(disk, bootDisk());
    await skep("image", "import", disk, "--name", "raw");
    const shape = ["--memory", "64M", "--cpus", "1", "--root-volume", "24M"];
    await skep("new", "root", "--image", "raw", ...shape, "--start");
    await eventually(
      async () => (await skep("logs", "root")).stdout.includes("volume boots"),
      () => "it never booted",
    );
    const ofRoot = async (name: string) =>
      (await guest.host.list()).filter((volume) => volume.name?.startsWith(`${name}-root-`) === true);
    await skep("snapshot", "create", "root", "first");
    const [own] = await ofRoot("root");
    assert.deepEqual(
      own?.snapshots.map(({ name }) => name),
      ["root/first"],
    );
    const forked = await skep("fork", "root", "copy", "--no-identity", "--json");
    const [copy] = (JSON.parse(forked.stdout) as ForkResult).copies;
    assert.deepEqual(
      copy?.volumes,
      (await ofRoot("copy")).map(({ id }) => id),
    );
    assert.equal(copy?.volumes.length, 1);
    const { stdout } = await skep("snapshot", "restore", "root", "first", "--discard", "--json");
    assert.equal((JSON.parse(stdout) as MachineSnapshotRestored).how, "resumed");
    await skep("rm", "--force", "copy");
    assert.deepEqual(await ofRoot("copy"), []);
    await skep("rm", "--force", "root");
    await guest.checkClean();
  });
});
