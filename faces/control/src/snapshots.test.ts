import assert from "node:assert/strict";
import { test } from "node:test";
import type { MachineSnapshot, MachineSnapshotRestored } from "@skep/api";
import { type TestControl, testControl } from "./test-control.ts";

async function made(t: TestControl): Promise<{ name: string }> {
  await t.client.job("createMachine", { body: { name: "web" } });
  await t.client.job("startMachine", { path: { name: "web" }, body: {} });
  return { name: "web" };
}

test("a snapshot is taken, listed, shown, gone back to and removed", async () => {
  await using t = await testControl();
  const path = await made(t);
  const body = { name: "before" };
  const taken = (await t.client.job("createMachineSnapshot", { path, body })) as MachineSnapshot;
  assert.deepEqual([taken.name, taken.state, taken.memory?.populatedMiB], ["before", "running", 64]);
  await t.client.job("createMachineSnapshot", { path, body: { memory: false } });
  const all = await t.client.call("listMachineSnapshots", { path });
  assert.deepEqual(
    all.map(({ name, parent, current }) => [name, parent, current]),
    [
      ["before", null, false],
      ["snapshot-2", "before", true],
    ],
  );
  const one = { ...path, snapshot: "before" };
  const restored = (await t.client.job("restoreMachineSnapshot", {
    path: one,
    body: {},
  })) as MachineSnapshotRestored;
  assert.deepEqual(
    [restored.how, restored.kept, restored.machine.name],
    ["resumed", "before-restore-1", "web"],
  );
  assert.equal((await t.client.call("getMachineSnapshot", { path: one })).current, true);
  await t.client.job("removeMachineSnapshot", { path: one });
  await assert.rejects(t.client.call("getMachineSnapshot", { path: one }), { code: "SNAPSHOT_NOT_FOUND" });
});

test("what is not there or not understood is refused", async () => {
  await using t = await testControl();
  const path = await made(t);
  const create = (body: object) => t.client.job("createMachineSnapshot", { path, body });
  await assert.rejects(create({ disks: true }), /unknown field "disks"/);
  await create({ name: "a" });
  await assert.rejects(create({ name: "a" }), { code: "SNAPSHOT_EXISTS" });
  const gone = { name: "nobody" };
  await assert.rejects(t.client.call("listMachineSnapshots", { path: gone }), { code: "MACHINE_NOT_FOUND" });
  await assert.rejects(t.client.job("createMachineSnapshot", { path: gone, body: {} }), {
    code: "MACHINE_NOT_FOUND",
  });
  const params = { path: { ...path, snapshot: "b" }, body: {} };
  await assert.rejects(t.client.job("restoreMachineSnapshot", params), { code: "SNAPSHOT_NOT_FOUND" });
});

test("a snapshot that is cancelled while it is taken is not there", async () => {
  await using t = await testControl();
  const path = await made(t);
  const controller = new AbortController();
  const taking = t.client.job(
    "createMachineSnapshot",
    { path, body: { name: "hang" } },
    { signal: controller.signal, onProgress: () => controller.abort() },
  );
  await assert.rejects(taking, { code: "CANCELLED" });
  assert.deepEqual(await t.client.call("listMachineSnapshots", { path }), []);
});
