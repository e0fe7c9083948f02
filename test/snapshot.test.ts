import assert from "node:assert/strict";
import { readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { flipByte, type Held, harmed, SnapshotGuest } from "./snapshot-guest.ts";

let guest: SnapshotGuest;
let first: Held;
before(async () => {
  guest = await SnapshotGuest.make();
  first = await guest.holds();
});
after(() => guest?.[Symbol.asyncDispose]());

describe("a machine that runs", () => {
  it("is kept with its memory, and goes on after a short pause", async () => {
    const kept = await guest.take("first");
    assert.deepEqual(
      [kept.name, kept.state, kept.parent, kept.current, kept.problem, kept.fileSystemsFrozen],
      ["first", "running", null, true, null, null],
    );
    assert.ok((kept.memory?.populatedMiB ?? 0) > 0 && (kept.pauseMs ?? 0) > 0);
    assert.deepEqual(await guest.holds(), first);
    await guest.countsOn();
  });

  it("is kept without its memory, where that is asked for", async () => {
    await guest.write("two");
    const { memory, parent, state, fileSystemsFrozen } = await guest.take("second", false);
    // The agent of this image cannot hold file systems still.
    assert.deepEqual([memory, parent, state, fileSystemsFrozen], [null, "first", "running", false]);
    assert.deepEqual(await guest.holds(), { ...first, disk: "two", memory: "two" });
  });

  it("goes on where it was after a restore: it is not booted; what it was before is kept", async () => {
    await guest.write("three");
    const { how, kept } = await guest.restore("first", { discard: false });
    assert.deepEqual([how, kept], ["resumed", "before-restore-1"]);
    assert.deepEqual(await guest.holds(), first);
    await guest.countsOn();
    assert.deepEqual(
      (await guest.list()).map(({ name, parent, current }) => [name, parent, current]),
      [
        ["first", null, true],
        ["second", "first", false],
        ["before-restore-1", "second", false],
      ],
    );
  });

  it("loses a snapshot in the middle, and none of the others", async () => {
    await guest.remove("second");
    assert.deepEqual(
      (await guest.list()).map(({ name, parent }) => [name, parent]),
      [
        ["first", null],
        ["before-restore-1", "first"],
      ],
    );
    await guest.checkHost();
    const { how, kept } = await guest.restore("before-restore-1");
    assert.deepEqual([how, kept], ["resumed", null]);
    assert.deepEqual(await guest.holds(), { ...first, disk: "three", memory: "three" });
    await guest.restore("first");
    assert.deepEqual(await guest.holds(), first);
    await guest.remove("before-restore-1");
    await guest.checkHost();
  });
});

describe("a snapshot that is damaged", () => {
  it("is refused by its name and what is wrong, and the machine is as it was", async () => {
    const record = join(guest.home, "machines/web/snapshots/first.json");
    await harmed(
      record,
      (path) => writeFile(path, '{"version": 1, "name'),
      async () => {
        await guest.refuses("first", /first\.json: .*not JSON/);
        assert.match((await guest.list())[0]?.problem ?? "", /first\.json/);
      },
    );
    await harmed(await guest.statePath("first", "memory.pack"), flipByte, () =>
      guest.refuses("first", /memory\.pack, chunk \d+/),
    );
    await harmed(await guest.layerPath("first"), rm, () =>
      guest.refuses("first", /layers\/.*\.qcow2 is missing/, { cold: true }),
    );
  });
});

describe("a machine that is stopped", () => {
  it("is kept, and set back to disks alone, also those of a snapshot with memory", async () => {
    await guest.write("rests");
    await guest.ask({ verb: "stop" });
    const kept = await guest.take("stopped");
    assert.deepEqual([kept.state, kept.memory, kept.pauseMs], ["stopped", null, null]);
    assert.equal((await guest.restore("first", { cold: true })).how, "stopped");
    await guest.ask({ verb: "start" });
    assert.deepEqual(await guest.holds(), { disk: "one", memory: "", counter: "" });
    await guest.ask({ verb: "stop" });
    await guest.restore("stopped");
    assert.equal((await guest.restore("first")).how, "resumed");
    assert.deepEqual(await guest.holds(), first);
    await guest.checkHost();
  });
});

describe("what is asked for wrongly", () => {
  it("is refused", async () => {
    await assert.rejects(guest.restore("gone"), { code: "SNAPSHOT_NOT_FOUND" });
    await assert.rejects(guest.remove("gone"), { code: "SNAPSHOT_NOT_FOUND" });
    await assert.rejects(guest.take("first"), { code: "SNAPSHOT_EXISTS" });
    await assert.rejects(guest.take("../x"), { code: "NAME_INVALID" });
    await assert.rejects(guest.restore("../../machine"), { code: "NAME_INVALID" });
    assert.deepEqual(await guest.holds(), first);
  });
});

describe("a machine that is removed", () => {
  it("takes its snapshots with it", async () => {
    await guest.ask({ verb: "remove" });
    for (const place of ["states", "layers", "machines"]) {
      assert.deepEqual(await readdir(join(guest.home, place)), [], place);
    }
  });
});
