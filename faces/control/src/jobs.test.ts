import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { Job } from "@skep/api/schemas";
import { SkepError } from "@skep/base";
import { Events } from "./events.ts";
import { Jobs } from "./jobs.ts";
import { openStore } from "./store.ts";
import { testControl } from "./test-control.ts";
import { silentLog } from "./testing.ts";

test("a cancelled job is undone before its follower hears of it", async () => {
  await using t = await testControl();
  const controller = new AbortController();
  const following = t.client.job(
    "createMachine",
    { body: { name: "web", userData: "hang" } },
    { signal: controller.signal, onNote: () => controller.abort() },
  );
  await assert.rejects(following, { code: "CANCELLED" });
  assert.deepEqual(await t.client.call("listMachines"), []);
  const [job] = await t.client.call("listJobs");
  assert.equal(job?.state, "cancelled");
  await assert.rejects(t.client.call("cancelJob", { path: { id: job.id } }), { code: "JOB_FINISHED" });
});

test("a failed job keeps code, message and next step, and leaves nothing", async () => {
  await using t = await testControl();
  await assert.rejects(t.client.job("createMachine", { body: { name: "web", userData: "fail" } }), {
    code: "DISK_FULL",
    message: "the disk is full",
    hint: "free some",
  });
  assert.deepEqual(await t.client.call("listMachines", { query: {} }), []);
});

test("progress reaches the follower, and an unknown job is refused", async () => {
  await using t = await testControl();
  const controller = new AbortController();
  const phases: string[] = [];
  await assert.rejects(
    t.client.job(
      "createMachine",
      { body: { name: "web", userData: "hang" } },
      {
        signal: controller.signal,
        onProgress: ({ phase }) => {
          phases.push(phase);
          controller.abort();
        },
      },
    ),
    { code: "CANCELLED" },
  );
  assert.equal(phases[0], "making");
  await assert.rejects(t.client.call("getJob", { path: { id: "none" } }), { code: "JOB_NOT_FOUND" });
  await assert.rejects(t.client.follow("none"), { code: "JOB_NOT_FOUND" });
});

async function withStore(run: (path: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "sk-"));
  try {
    await run(join(directory, "skep.db"));
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** The job's last state. */
function ended(jobs: Jobs, id: string): Promise<Job> {
  return new Promise((resolve) => {
    jobs.subscribe(id, (job) => {
      if (job.state !== "running") resolve(job);
    });
  });
}

test("jobs that a dead skepd left are finished or undone, and say so", () =>
  withStore(async (path) => {
    const before = openStore(path);
    const insert = before.prepare(
      "INSERT INTO jobs (id, kind, subject, state, request, created_at) VALUES (?, ?, ?, 'running', ?, ?)",
    );
    for (const [id, kind] of [
      ["a", "machine.create"],
      ["b", "machine.stop"],
      ["c", "machine.edit"],
    ] as const) {
      insert.run(id, kind, "web", JSON.stringify({ asked: id }), new Date().toISOString());
    }
    before.close();
    const database = openStore(path);
    const jobs = new Jobs({ database, events: new Events(), log: silentLog });
    const asked: unknown[] = [];
    await jobs.recover(async ({ kind, request }) => {
      asked.push(request);
      if (kind === "machine.edit") throw new SkepError("MACHINE_DAMAGED", "it is damaged");
      return kind === "machine.create" ? "undone" : "finished";
    });
    assert.deepEqual(asked, [{ asked: "a" }, { asked: "b" }, { asked: "c" }]);
    assert.deepEqual(
      [jobs.get("a"), jobs.get("b"), jobs.get("c")].map(({ state, error }) => [state, error?.code]),
      [
        ["failed", "JOB_INTERRUPTED"],
        ["succeeded", undefined],
        ["failed", "MACHINE_DAMAGED"],
      ],
    );
    assert.deepEqual(jobs.list({ state: "running" }), []);
    database.close();
  }));

test("a finished job's request is not kept, and only the last 500 finished jobs are", () =>
  withStore(async (path) => {
    const database = openStore(path);
    database.exec("PRAGMA synchronous=OFF");
    const jobs = new Jobs({ database, events: new Events(), log: silentLog });
    const first = jobs.start({ kind: "k", subject: "s", request: { secret: "x" } }, async () => 1);
    await ended(jobs, first.id);
    assert.equal(database.prepare("SELECT request FROM jobs").get()?.request, null);
    for (let count = 0; count < 500; count += 1) {
      await ended(jobs, jobs.start({ kind: "k", subject: "s", request: null }, async () => count).id);
    }
    assert.equal(jobs.list({ limit: 1000 }).length, 500);
    assert.throws(() => jobs.get(first.id), { code: "JOB_NOT_FOUND" });
    await jobs.close();
    assert.throws(() => jobs.start({ kind: "k", subject: "s", request: null }, async () => 1), {
      code: "SHUTTING_DOWN",
    });
    database.close();
  }));

test("a database of another version is refused", () =>
  withStore(async (path) => {
    const database = openStore(path);
    database.exec("PRAGMA user_version = 9");
    database.close();
    assert.throws(() => openStore(path), { code: "FILE_VERSION" });
  }));

test("with a full disk, work that may free it can still be done", () =>
  withStore(async (path) => {
    const database = openStore(path);
    database.exec("PRAGMA max_page_count = 1"); // as many as there are
    const jobs = new Jobs({ database, events: new Events(), log: silentLog });
    const request = { kind: "machine.remove", subject: "web", request: "x".repeat(1_000_000) };
    const job = await ended(jobs, jobs.start(request, async () => "removed").id);
    assert.deepEqual([job.state, job.result], ["succeeded", "removed"]);
    assert.equal(jobs.get(job.id).state, "succeeded");
    database.close();
  }));
