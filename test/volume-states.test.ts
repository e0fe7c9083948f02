import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { VolumeGuest } from "./volume-states.ts";

// More: volume-states.slow.test.ts

let guest: VolumeGuest;
before(async () => {
  guest = await VolumeGuest.make();
});
after(() => guest?.[Symbol.asyncDispose]());

const skep = (...args: string[]) => guest.skep.skep(args);
const all = (text: string) => [text, text, text];

describe("a snapshot of a machine with a volume", () => {
  it("has the volume at the same instant as memory and disk, and sets all of it back", async () => {
    await guest.write("one");
    const kept = await guest.take("first");
    assert.deepEqual(
      kept.volumes.map(({ id }) => id),
      [guest.volume],
    );
    assert.deepEqual(await guest.ofVolume(), ["web/first"]);
    await guest.write("two");
    const { how, kept: before } = await guest.restore("first");
    assert.deepEqual([how, before], ["resumed", "before-restore-1"]);
    assert.deepEqual(await guest.holds(), all("one"));
    await guest.restore("before-restore-1", "--discard");
    assert.deepEqual(await guest.holds(), all("two"));
    await skep("snapshot", "rm", "web", "before-restore-1");
    await guest.checkClean();
  });

  it("is refused where the volume has lost its snapshot since, and all is as it was", async () => {
    await guest.take("lost", "--no-memory");
    await guest.host.vol(["snapshot", "rm", "data@web/lost"]);
    assert.match(await guest.refusal("snapshot", "restore", "web", "lost"), /has no snapshot snap-/);
    assert.match(await guest.refusal("fork", "web", "--snapshot", "lost"), /"lost" has no memory/);
    await skep("snapshot", "rm", "web", "lost");
    assert.deepEqual(await guest.holds(), all("two"));
    await guest.checkClean();
  });
});

describe("copies of a machine with a volume", () => {
  after(() => guest.skep.skep(["rm", "--force", "web-1"], { status: null }));

  it("have clones of it, and nobody sees what another writes; the last of them takes what they share", async () => {
    await guest.fork();
    assert.deepEqual(await guest.holds("web-1"), all("two"));
    const clones = (await guest.host.list()).filter(({ machine }) => machine === "web-1");
    assert.deepEqual(
      clones.map(({ name, source }) => [name, source?.volume]),
      [["web-1-data", guest.volume]],
    );
    const both = ["web", "web-1"];
    await Promise.all(both.map((name) => guest.write(name, name)));
    assert.deepEqual(await Promise.all(both.map((name) => guest.holds(name))), both.map(all));
    await skep("rm", "--force", "web-1");
    await guest.host.vol(["rm", "web-1-data"]);
    await guest.checkClean();
  });

  it("go on from a snapshot, whatever the machine does since", async () => {
    await guest.fork("then", "--snapshot", "first");
    const held = await Promise.all(["then", "web"].map((name) => guest.holds(name)));
    assert.deepEqual(held, [all("one"), all("web")]);
    await skep("rm", "--force", "then");
    await guest.host.vol(["rm", "then-data"]);
    await guest.checkClean();
  });

  it("are not made where a volume's name is taken, and nothing is left of any", async () => {
    await guest.host.add("--size", "8M", "--name", "web-1-data");
    assert.match(await guest.refusal("fork", "web"), /volume "web-1-data" exists already/);
    await guest.host.vol(["rm", "web-1-data"]);
    assert.deepEqual(await guest.holds(), all("web"));
    await guest.checkClean();
  });
});

describe("a machine that is removed", () => {
  it("takes its volume's snapshots with its own, and leaves the volume", async () => {
    await skep("rm", "--force", "web");
    const [left] = await guest.host.list();
    assert.deepEqual([left?.name, left?.snapshots, left?.machine], ["data", [], null]);
  });
});
