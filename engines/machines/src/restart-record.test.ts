import assert from "node:assert/strict";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { RestartPolicy, Restarts } from "@skep/api/schemas";
import { dueInMs, plan, readRestarts, restartTimes, wantsRestart, writeRestarts } from "./restart-record.ts";

const now = Date.parse("2026-11-21T12:00:00.000Z");
const always: RestartPolicy = { policy: "always", attempts: null };
const failed = { why: "guest panicked", goodMs: 0, now };

/** What is recorded after so many restarts in a row, each of which failed at once. */
function after(count: number, policy: RestartPolicy): Restarts {
  let record: Restarts | null = null;
  for (let restart = 0; restart < count; restart += 1) {
    record = plan(policy, record, failed);
    if (record.gaveUp) return record;
    record = { ...record, count: record.count + 1, inARow: record.inARow + 1 };
  }
  return plan(policy, record, failed);
}

const delayMs = ({ dueAt }: Restarts) => Date.parse(dueAt ?? "") - now;

describe("a restart policy", () => {
  it("waits twice as long each time, up to a limit, and always goes on", () => {
    const waits = [0, 1, 2, 5, 8, 9, 40, 5000].map((count) => delayMs(after(count, always)));
    assert.deepEqual(waits, [1000, 2000, 4000, 32_000, 256_000, 300_000, 300_000, 300_000]);
  });

  it("gives up after as many as it says, and keeps why", () => {
    const policy: RestartPolicy = { policy: "on-failure", attempts: 2 };
    assert.equal(after(1, policy).gaveUp, false);
    const { gaveUp, dueAt, count, why } = after(7, policy);
    assert.deepEqual({ gaveUp, dueAt, count, why }, { gaveUp: true, dueAt: null, count: 2, why: failed.why });
  });

  it("begins a new row after good minutes, and counts on", () => {
    const before = after(6, always);
    const { inARow, count } = plan(always, before, { ...failed, goodMs: restartTimes.settledMs });
    assert.deepEqual([inARow, count], [0, 6]);
    assert.equal(plan(always, before, { ...failed, goodMs: Number.NaN }).inARow, 6);
  });

  it("knows what is a failure, and what somebody wanted", () => {
    const onFailure: RestartPolicy = { policy: "on-failure", attempts: 5 };
    const kinds = ["requested", "monitor", "signal", "guest", "failure"] as const;
    assert.deepEqual(
      kinds.filter((kind) => wantsRestart(always, kind)),
      ["signal", "guest", "failure"],
    );
    assert.deepEqual(
      kinds.filter((kind) => wantsRestart(onFailure, kind)),
      ["failure"],
    );
    assert.ok(!kinds.some((kind) => wantsRestart({ policy: "no", attempts: null }, kind)));
  });

  it("is not kept waiting by a clock that was set back", () => {
    assert.equal(dueInMs("2036-01-01T00:00:00.000Z", now), restartTimes.longestMs);
    assert.equal(dueInMs("2016-01-01T00:00:00.000Z", now), 0);
  });
});

it("what a policy did is kept, and what is damaged counts as nothing", async () => {
  const directory = await mkdtemp("/tmp/skep-restarts-");
  try {
    const path = join(directory, "restarts.json");
    const record = after(2, always);
    await writeRestarts(path, record);
    assert.deepEqual(await readRestarts(path), record);
    for (const text of ["", "{", "[]", '{"version":1}', '{"version":1,"count":-1,"inARow":0,"dueAt":null}']) {
      await writeFile(path, text);
      assert.equal(await readRestarts(path), null, text);
    }
    await writeRestarts(path, null);
    assert.deepEqual(await readdir(directory), []);
    assert.equal(await readRestarts(path), null);
  } finally {
    await rm(directory, { recursive: true });
  }
});
