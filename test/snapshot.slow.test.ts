import assert from "node:assert/strict";
import { readdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { flipByte, type Held, harmed, SnapshotGuest } from "./snapshot-guest.ts";

let guest: SnapshotGuest;
let first: Held;
before(async () => {
  ({ guest, first } = await SnapshotGuest.withFirst());
});
after(() => guest?.[Symbol.asyncDispose]());

describe("a snapshot", () => {
  it("is gone back to as often as wanted, and by what was kept of it", async () => {
    for (const text of ["two", "three"]) {
      await guest.write(text);
      await guest.restore("first", { discard: false });
      assert.deepEqual(await guest.holds(), first);
    }
    for (const [name, text] of [
      ["before-restore-1", "two"],
      ["before-restore-2", "three"],
    ] as const) {
      await guest.restore(name);
      assert.deepEqual(await guest.holds(), { ...first, disk: text, memory: text });
    }
    await guest.restore("first");
    for (const name of ["before-restore-1", "before-restore-2"]) await guest.remove(name);
    await guest.checkHost();
  });

  it("of disks alone is booted from", async () => {
    await guest.write("booted");
    await guest.take("disks", false);
    await guest.write("later");
    assert.equal((await guest.restore("disks")).how, "booted");
    assert.deepEqual(await guest.holds(), { disk: "booted", memory: "", counter: "" });
    await guest.remove("disks");
    await guest.restore("first");
    assert.deepEqual(await guest.holds(), first);
  });
});

describe("a machine that is suspended", () => {
  it("is kept and set back, asleep; what it sleeps on stays the snapshot's", async () => {
    await guest.write("asleep");
    await guest.ask({ verb: "suspend" });
    const kept = await guest.take("asleep");
    assert.deepEqual([kept.state, kept.pauseMs], ["suspended", null]);
    assert.ok((kept.memory?.storedBytes ?? 0) > 0);
    await guest.ask({ verb: "resume" });
    const asleep = { ...first, disk: "asleep", memory: "asleep" };
    assert.deepEqual(await guest.holds(), asleep);
    for (let times = 0; times < 2; times += 1) {
      await guest.write("awake");
      assert.equal((await guest.restore("asleep")).how, "suspended");
      await guest.checkHost();
      await guest.ask({ verb: "resume" });
      assert.deepEqual(await guest.holds(), asleep);
    }
    await guest.restore("asleep");
    await guest.remove("asleep"); // while the machine sleeps on its memory
    await guest.ask({ verb: "resume" });
    assert.deepEqual(await guest.holds(), asleep);
    assert.equal((await readdir(join(guest.home, "states"))).length, 1);
    await guest.checkHost();
  });
});

describe("a restore that cannot be written down", () => {
  it("loses nothing: the machine is stopped, and what it was is a snapshot with its memory", async () => {
    await guest.write("unwritten");
    const file = join(guest.home, "machines/web/machine.json");
    try {
      await assert.rejects(
        guest.ask({ verb: "restore", snapshot: "first", discard: false, bar: file }),
        /machine\.json/,
      );
    } finally {
      await rm(file, { recursive: true });
      await rename(`${file}.aside`, file);
    }
    assert.equal((await guest.world.machine()).state, "stopped");
    const [kept = ""] = (await guest.list()).map(({ name }) => name).filter((name) => name !== "first");
    assert.match(kept, /^before-restore/);
    await guest.checkHost();
    await guest.restore(kept);
    assert.deepEqual(await guest.holds(), { ...first, disk: "unwritten", memory: "unwritten" });
    await guest.remove(kept);
    await guest.restore("first");
    await guest.checkHost();
  });
});

describe("a snapshot that is damaged", () => {
  for (const [what, harm, says] of [
    ["of another version", (path) => writeFile(path, '{"version": 2}'), /version 2/],
    [
      "without its fields",
      (path) => writeFile(path, '{"version": 1, "name": "first"}'),
      /is not valid|is no/,
    ],
    ["too large", (path) => writeFile(path, Buffer.alloc(2 ** 21)), /2097152 bytes, too many/],
  ] as [string, (path: string) => Promise<void>, RegExp][]) {
    it(`in its record (${what}) is refused`, async () => {
      const record = join(guest.home, "machines/web/snapshots/first.json");
      await harmed(record, harm, () => guest.refuses("first", says));
    });
  }

  it("in its memory is refused; its disks alone can be had, and the memory once it is mended", async () => {
    await harmed(await guest.statePath("first", "device.zst"), flipByte, () =>
      guest.refuses("first", /device\.zst/),
    );
    await harmed(await guest.statePath("first", "manifest.json"), rm, async () => {
      await guest.refuses("first", /manifest\.json: it is missing/);
      assert.equal((await guest.restore("first", { cold: true })).how, "booted");
      assert.deepEqual(await guest.holds(), { disk: "one", memory: "", counter: "" });
    });
    assert.equal((await guest.restore("first")).how, "resumed");
    assert.deepEqual(await guest.holds(), first);
  });

  it("is removed all the same", async () => {
    await guest.take("hurt", false);
    await writeFile(join(guest.home, "machines/web/snapshots/hurt.json"), "{");
    await guest.remove("hurt");
    await guest.restore("first");
    assert.deepEqual(await guest.holds(), first);
    await guest.checkHost();
  });
});
