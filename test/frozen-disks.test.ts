/** The disks of a running guest are frozen under it: layers that never change again. Its memory: frozen-memory.test.ts */
import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { quietWork, run } from "@skep/base";
import {
  abandonDiskFreeze,
  type DiskFreeze,
  freezeDisksAtRest,
  type LiveMachine,
  prepareDiskFreeze,
} from "@skep/machines";
import { FrozenGuest, transaction } from "./frozen-guest.ts";
import { eventually } from "./support.ts";

const name = "web";

describe("disks of a running guest", { skip: process.platform !== "linux" }, () => {
  let guest: FrozenGuest;
  before(async () => {
    guest = await FrozenGuest.make();
  });
  after(() => guest?.[Symbol.asyncDispose]());

  it("become layers that are whole and never change again, while the guest goes on writing, time and again", async () => {
    await guest.writeAt("vda", "one");
    const count = "i=0; while :; do i=$((i + 1)); echo $i | dd of=/dev/vdb conv=notrunc,fsync; done";
    const writer = await guest.sh(`(${count}) >/dev/null 2>&1 & echo $!`);
    const first = await guest.freeze();
    assert.equal(first.disk, null);
    const counted = Number(await guest.contentOf(first.dataDisks[1]));
    const before = await Promise.all(first.dataDisks.map((layer) => guest.digest(layer)));
    await guest.writeAt("vda", "two");
    const second = await guest.freeze();
    await guest.writeAt("vda", "three");
    await eventually(
      async () => Number(await guest.readAt("vdb")) > counted + 5,
      () => "the guest does not write any more",
    );
    const third = await guest.freeze();
    await guest.writeAt("vda", "four");
    assert.equal(await guest.contentOf(first.dataDisks[0]), "one");
    assert.equal(await guest.contentOf(second.dataDisks[0]), "two");
    assert.equal(await guest.contentOf(third.dataDisks[0]), "three");
    assert.equal(await guest.readAt("vda"), "four");
    assert.deepEqual(await Promise.all(first.dataDisks.map((layer) => guest.digest(layer))), before);
    for (const layer of [...first.dataDisks, ...second.dataDisks, ...third.dataDisks]) {
      const path = join(guest.skep.home, layer?.path ?? "");
      await run("qemu-img", ["check", "-q", "-f", "qcow2", path]);
      assert.equal((await stat(path)).mode & 0o777, 0o444);
    }
    const { file } = await guest.machine();
    assert.deepEqual(
      file.dataDisks.map(({ base }) => base),
      third.dataDisks,
    );
    await guest.sh(`kill ${writer}`);
  });

  it("are as they were where it is given up before it is committed", async () => {
    const before = (await guest.machine()).file;
    const layers = await guest.layersLeft();
    await guest.within(async (it) => {
      const live = it.running();
      await prepareDiskFreeze(live);
      assert.equal(await guest.layersLeft(), layers + 2);
      await abandonDiskFreeze(live);
      await assert.rejects(prepareDiskFreeze(live, AbortSignal.abort()));
    });
    assert.equal(await guest.layersLeft(), layers);
    assert.deepEqual((await guest.machine()).file, before);
    await guest.writeAt("vda", "five");
    assert.equal(await guest.readAt("vda"), "five");
  });

  it("are brought in order by the next skepd, at whatever point the last one was killed", async () => {
    const steps: [string, (live: LiveMachine, prepared: DiskFreeze) => Promise<unknown>, boolean][] = [
      ["prepared", async () => {}, false],
      ["stopped", (live) => live.qmp.execute("stop"), false],
      [
        "transaction",
        async (live, prepared) => {
          await live.qmp.execute("stop");
          await transaction(live, prepared);
        },
        true,
      ],
    ];
    for (const [step, reach, isFrozen] of steps) {
      await guest.writeAt("vda", `before-${step}`);
      const { layers } = await guest.within(async (it) => {
        const prepared = await prepareDiskFreeze(it.running());
        await reach(it.running(), prepared);
        return prepared;
      });
      await guest.reopen();
      assert.equal(guest.machines.get(name).state, "running", step);
      const { file, run } = await guest.machine();
      assert.equal(run?.freezing, null, step);
      const isBase = file.dataDisks[0]?.base?.path === layers.dataDisks[0]?.path;
      assert.equal(isBase, isFrozen, step);
      await guest.writeAt("vda", `after-${step}`);
      assert.equal(await guest.readAt("vda"), `after-${step}`);
      if (isFrozen) assert.equal(await guest.contentOf(layers.dataDisks[0]), `before-${step}`);
    }
  });

  it("lose nothing where QEMU dies before that is recorded, nor where they are frozen at rest", async () => {
    await guest.writeAt("vda", "power");
    const layers = await guest.layersLeft();
    await guest.loseQemu(name, false);
    assert.equal(await guest.layersLeft(), layers);
    const frozen = await guest.within(freezeDisksAtRest);
    assert.equal(await guest.contentOf(frozen.dataDisks[0]), "power");
    await guest.machines.start(name, { wait: true }, quietWork());
    assert.equal(await guest.readAt("vda"), "power");
    await guest.writeAt("vda", "more");
    assert.equal(await guest.contentOf(frozen.dataDisks[0]), "power");
  });

  it("go with the machines that stand on them", async () => {
    await guest.machines.remove(name, { force: true }, quietWork());
    assert.equal(await guest.layersLeft(), 0);
  });
});
