import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import type { ForkResult, MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import type { Volume } from "@skep/api/schemas";
import { eventually, type Installation } from "./support.ts";
import { VolumeHost } from "./volumes.ts";

let host: VolumeHost;
let skep: Installation;
let volume: string;

/** The guest's disk of 24 MiB, whatever its serial is. */
const disk =
  'd=; for s in /sys/block/vd*/size; do [ "$(cat $s)" = 49152 ] && d=$s; done; d=${d%/size}; d=/dev/${d##*/}';

before(async () => {
  host = await VolumeHost.make(["tiny"]);
  skep = host.installation;
  volume = await host.add("--size", "24M", "--name", "data");
  await skep.skep([
    ...["new", "web", "--image", "tiny", "--memory", "96M", "--cpus", "1"],
    ...["--data-disk", "16M", "--volume", "data", "--start", "--wait"],
  ]);
});
after(() => host?.[Symbol.asyncDispose]());

async function sh(name: string, script: string): Promise<string> {
  return (await skep.skep(["exec", name, "--", "sh", "-c", script])).stdout.trim();
}

/** To its volume, its disk (both flushed) and its memory. */
async function write(text: string, name = "web"): Promise<void> {
  const to = (where: string) => `printf '%-8s' ${text} | dd of=${where} conv=notrunc,fsync 2>/dev/null`;
  await sh(name, `${disk}; ${to("$d")}; ${to("/dev/vda")}; echo ${text} >/text`);
}

/** What the volume, the disk and the memory hold. */
async function holds(name = "web"): Promise<string[]> {
  const script = `${disk}; head -c 8 $d; echo; head -c 8 /dev/vda; echo; cat /text 2>/dev/null || echo none`;
  return (await sh(name, script)).split("\n").map((line) => line.replaceAll("\0", "").trim());
}

async function take(name: string, ...more: string[]): Promise<MachineSnapshot> {
  return JSON.parse((await skep.skep(["snapshot", "create", "web", name, "--json", ...more])).stdout);
}

async function restore(name: string, ...more: string[]): Promise<MachineSnapshotRestored> {
  return JSON.parse((await skep.skep(["snapshot", "restore", "web", name, "--json", ...more])).stdout);
}

async function fork(...args: string[]): Promise<ForkResult> {
  return JSON.parse((await skep.skep(["fork", "web", ...args, "--json"])).stdout);
}

async function snapshotsOf(id = volume): Promise<(string | null)[]> {
  return (await host.show(id)).snapshots.map(({ name }) => name);
}

async function refusal(...args: string[]): Promise<string> {
  const { stderr, status } = await skep.skep(args, { status: null });
  assert.notEqual(status, 0, `${args.join(" ")} did not fail`);
  return stderr;
}

async function isClean(): Promise<void> {
  const snapshots = await readdir(join(skep.home, "machines/web/snapshots")).catch(() => []);
  assert.deepEqual(
    snapshots.filter((name) => name.startsWith(".")),
    [],
  );
  assert.deepEqual(
    (await host.list()).map(({ name }) => name),
    ["data"],
  );
}

describe("a snapshot of a machine with a volume", () => {
  it("has the volume at the same instant as memory and disk, and sets all of it back", async () => {
    await write("one");
    const kept = await take("first");
    assert.deepEqual(
      kept.volumes.map(({ id }) => id),
      [volume],
    );
    assert.deepEqual(await snapshotsOf(), ["web/first"]);
    await write("two");
    assert.deepEqual(await holds(), ["two", "two", "two"]);
    const { how, kept: before } = await restore("first");
    assert.deepEqual([how, before], ["resumed", "before-restore-1"]);
    assert.deepEqual(await holds(), ["one", "one", "one"]);
    await restore("before-restore-1", "--discard");
    assert.deepEqual(await holds(), ["two", "two", "two"]);
  });

  it("is of the very instant of the memory, while the guest writes without end", async () => {
    // What it reads back is always what it wrote last.
    const writer = `n=0; while :; do
        printf '%-8d' $n | dd of=$d bs=8 seek=512 conv=notrunc,fsync 2>/dev/null
        have=$(dd if=$d bs=8 skip=512 count=1 2>/dev/null)
        [ $have -eq $n ] || echo $have $n >>/mismatch
        n=$((n + 1)); echo $n >/told.new; mv /told.new /told
      done`;
    const told = async () => Number(await sh("web", "cat /told 2>/dev/null || echo 0"));
    const writesOn = async (from: number) =>
      await eventually(
        async () => (await told()) > from + 3,
        () => "the guest does not write",
      );
    await sh("web", `${disk}; (${writer}) >/dev/null 2>&1 & echo $! >/writer`);
    await writesOn(0);
    await take("busy");
    const later = await told();
    await writesOn(later);
    await restore("busy", "--discard");
    await writesOn(await told());
    assert.equal(await sh("web", "kill $(cat /writer); cat /mismatch 2>/dev/null || echo none"), "none");
    await skep.skep(["snapshot", "rm", "web", "busy"]);
  });

  it("without memory, and of a machine that is stopped or suspended, has the volume too", async () => {
    await write("disks");
    await take("disks", "--no-memory");
    await write("asleep");
    await skep.skep(["suspend", "web"]);
    assert.equal((await take("asleep")).state, "suspended");
    await skep.skep(["resume", "web"]);
    await write("rests");
    await skep.skep(["stop", "web", "--force"]);
    await take("stopped");
    assert.equal((await restore("disks", "--discard")).how, "stopped");
    await skep.skep(["start", "web", "--wait"]);
    assert.deepEqual(await holds(), ["disks", "disks", "none"]);
    assert.equal((await restore("asleep", "--discard")).how, "suspended");
    await skep.skep(["resume", "web"]);
    assert.deepEqual(await holds(), ["asleep", "asleep", "asleep"]);
    await skep.skep(["stop", "web", "--force"]);
    await restore("stopped", "--discard");
    await skep.skep(["start", "web", "--wait"]);
    assert.deepEqual(await holds(), ["rests", "rests", "none"]);
  });

  it("takes only its own snapshots of the volume with it when it is removed", async () => {
    await host.vol(["snapshot", "data", "--name", "mine"]);
    await skep.skep(["snapshot", "rm", "web", "disks", "asleep", "stopped", "before-restore-1"]);
    assert.deepEqual(await snapshotsOf(), ["web/first", "mine"]);
    await host.vol(["snapshot", "rm", "data@mine"]);
    await isClean();
  });

  it("is refused where the volume was detached or lost its snapshot since, and all is as it was", async () => {
    await write("now");
    await take("lost");
    await host.vol(["snapshot", "rm", "data@web/lost"]);
    assert.match(await refusal("snapshot", "restore", "web", "lost"), /has no snapshot snap-/);
    await skep.skep(["snapshot", "rm", "web", "lost"]);
    await host.vol(["detach", "data"]);
    assert.match(await refusal("snapshot", "restore", "web", "first"), /it had volume vol-.* has it no more/);
    await host.vol(["attach", "data", "web"]);
    await eventually(
      async () => (await holds())[0] === "now",
      () => "the guest does not see its volume again",
    );
    await skep.skep(["stop", "web", "--force"]);
    await skep.skep(["start", "web", "--wait"]);
    assert.deepEqual(await holds(), ["now", "now", "none"]);
  });
});

describe("copies of a machine with a volume", () => {
  const copies = ["web-1", "web-2"];
  after(() => skep.skep(["rm", "--force", ...copies], { status: null }));

  const volumesOf = async (name: string): Promise<Volume[]> =>
    (await host.list()).filter(({ machine }) => machine === name);

  it("have clones of it, and nobody sees what another writes", async () => {
    await write("base");
    await fork("-n", "2");
    for (const name of copies) {
      assert.deepEqual(await holds(name), ["base", "base", "base"]);
      assert.deepEqual(
        (await volumesOf(name)).map((one) => [one.name, one.source?.volume]),
        [[`${name}-data`, volume]],
      );
    }
    for (const name of ["web", ...copies]) await write(name, name);
    for (const name of ["web", ...copies]) assert.deepEqual(await holds(name), [name, name, name]);
  });

  it("have them after a boot of their own, keep them when they are removed, and leave nothing with the last", async () => {
    await skep.skep(["stop", "--force", "web-1"]);
    await skep.skep(["start", "web-1", "--wait"]);
    assert.deepEqual(await holds("web-1"), ["web-1", "web-1", "none"]);
    await skep.skep(["rm", "--force", ...copies]);
    assert.equal((await snapshotsOf()).length, 2);
    await host.vol(["rm", "web-1-data"]);
    await host.vol(["rm", "web-2-data"]);
    assert.deepEqual(await snapshotsOf(), ["web/first"]);
    await isClean();
  });

  it("go on from a snapshot, whatever the machine does since", async () => {
    await write("later");
    await fork("then", "--snapshot", "first");
    assert.deepEqual(await holds("then"), ["one", "one", "one"]);
    assert.equal(await sh("then", "hostname"), "then");
    assert.deepEqual(await holds(), ["later", "later", "later"]);
    await skep.skep(["rm", "--force", "then"]);
    await host.vol(["rm", "then-data"]);
    await take("disks", "--no-memory");
    assert.match(await refusal("fork", "web", "--snapshot", "disks"), /"disks" has no memory/);
    assert.match(await refusal("fork", "web", "--snapshot", "none"), /has no snapshot "none"/);
    await isClean();
  });

  it("are not made where a volume's name is taken, and nothing is left of any", async () => {
    await host.add("--size", "8M", "--name", "web-2-data");
    assert.match(await refusal("fork", "web", "-n", "2"), /volume "web-2-data" exists already/);
    await host.vol(["rm", "web-2-data"]);
    assert.deepEqual(
      (await skep.machines()).map(({ name }) => name),
      ["web"],
    );
    assert.deepEqual(await snapshotsOf(), ["web/first", "web/disks"]);
    await isClean();
  });

  it("of one that is suspended have its volume as it fell asleep", async () => {
    await write("sleepy");
    await skep.skep(["suspend", "web"]);
    await fork("dream");
    assert.deepEqual(await holds("dream"), ["sleepy", "sleepy", "sleepy"]);
    await skep.skep(["rm", "--force", "dream"]);
    await host.vol(["rm", "dream-data"]);
    await skep.skep(["resume", "web"]);
    assert.deepEqual(await holds(), ["sleepy", "sleepy", "sleepy"]);
  });
});

describe("when storaged dies", () => {
  it("what it served goes on, and snapshots are taken again", async () => {
    await skep.killStoraged();
    await take("after");
    await restore("after", "--discard");
    assert.deepEqual(await holds(), ["sleepy", "sleepy", "sleepy"]);
    await skep.skep(["snapshot", "rm", "web", "after"]);
    await isClean();
  });
});

describe("a machine that is removed", () => {
  it("takes its volume's snapshots with its own, and leaves the volume", async () => {
    await skep.skep(["rm", "--force", "web"]);
    const [left] = await host.list();
    assert.deepEqual([left?.name, left?.snapshots, left?.machine], ["data", [], null]);
    await host.vol(["rm", "data"]);
  });
});
