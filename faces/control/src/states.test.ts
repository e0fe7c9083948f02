import assert from "node:assert/strict";
import { test } from "node:test";
import { type TestControl, testControl } from "./test-control.ts";

async function running(t: TestControl, name: string): Promise<{ path: { name: string } }> {
  await t.client.job("createMachine", { body: { name } });
  await t.client.job("startMachine", { path: { name }, body: {} });
  return { path: { name } };
}

test("a machine is suspended and resumed, and its state is shown", async () => {
  await using t = await testControl();
  const { path } = await running(t, "web");
  const stored = (await t.client.job("suspendMachine", { path, body: {} })) as { machine: { state: string } };
  assert.equal(stored.machine.state, "suspended");
  const machine = await t.client.call("getMachine", { path });
  assert.equal(machine.suspended?.populatedMiB, 64);
  assert.equal((await t.client.call("listMachines", { query: { state: "suspended" } })).length, 1);
  assert.ok((await t.client.call("doctor")).some(({ name }) => name === "state of web"));
  const resumed = (await t.client.job("resumeMachine", { path, body: {} })) as { how: string };
  assert.equal(resumed.how, "resumed");
  assert.equal((await t.client.call("getMachine", { path })).suspended, null);
});

test("the start of a suspended machine resumes it, and says so", async () => {
  await using t = await testControl();
  const { path } = await running(t, "web");
  await t.client.job("suspendMachine", { path, body: {} });
  const notes: string[] = [];
  const onNote = (note: string) => notes.push(note);
  const machine = await t.client.job("startMachine", { path, body: {} }, { onNote });
  assert.equal((machine as { state: string }).state, "running");
  assert.match(notes.join("\n"), /^web is resumed: it goes on where it was, \d+\w after it was suspended$/);
});

test("a cold resume is one that boots, and only where it is asked for", async () => {
  await using t = await testControl();
  const { path } = await running(t, "web");
  await t.client.job("suspendMachine", { path, body: {} });
  const booted = (await t.client.job("resumeMachine", { path, body: { cold: true } })) as { how: string };
  assert.equal(booted.how, "booted");
});

test("what is not there, not running, not suspended or not understood is refused", async () => {
  await using t = await testControl();
  await t.client.job("createMachine", { body: { name: "web" } });
  const path = { name: "web" };
  const job = (id: "suspendMachine" | "resumeMachine", params: object) => t.client.job(id, params as never);
  await assert.rejects(job("suspendMachine", { path, body: {} }), { code: "STATE_NOT_RUNNING" });
  await assert.rejects(job("resumeMachine", { path, body: {} }), { code: "STATE_NOT_SUSPENDED" });
  await assert.rejects(job("resumeMachine", { path, body: { warm: true } }), /unknown field "warm"/);
  await assert.rejects(job("suspendMachine", { path, body: { cold: true } }), /unknown field "cold"/);
  await assert.rejects(job("suspendMachine", { path: { name: "nobody" }, body: {} }), {
    code: "MACHINE_NOT_FOUND",
  });
});

test("a suspend that is cancelled leaves the machine running", async () => {
  await using t = await testControl();
  const { path } = await running(t, "hang");
  const controller = new AbortController();
  const suspending = t.client.job(
    "suspendMachine",
    { path, body: {} },
    { signal: controller.signal, onProgress: () => controller.abort() },
  );
  await assert.rejects(suspending, { code: "CANCELLED" });
  assert.equal((await t.client.call("getMachine", { path })).state, "running");
});
