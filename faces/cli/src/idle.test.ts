import assert from "node:assert/strict";
import { test } from "node:test";
import type { Machine } from "@skep/api";
import { parseSuspendAfter, suspendAfterText } from "./idle.ts";

test("the time until a machine sleeps is a duration, or off", () => {
  assert.equal(parseSuspendAfter("10m"), 600);
  assert.equal(parseSuspendAfter("90"), 90);
  assert.equal(parseSuspendAfter("off"), null);
  assert.throws(() => parseSuspendAfter("0s"), /too short/);
  assert.throws(() => parseSuspendAfter("never"), /never/);
});

test("status says how idle a machine is, and what keeps it awake", () => {
  const now = Date.parse("2026-01-01T00:10:00Z");
  const idle = { since: "2026-01-01T00:06:00Z", busy: null, failure: null, retryAt: null };
  const text = (machine: Partial<Machine>) =>
    suspendAfterText({ suspendAfterSeconds: 600, idle: null, suspended: null, ...machine } as Machine, now);
  assert.equal(text({ suspendAfterSeconds: null }), null);
  assert.equal(text({}), "10m");
  assert.equal(text({ idle }), "10m, unused for 4m");
  assert.equal(
    text({ suspendAfterSeconds: 90, idle: { ...idle, busy: "its console is attached" } }),
    "90s, in use: its console is attached",
  );
  const failed = {
    ...idle,
    failure: "hook no ended with status 1:\nits output",
    retryAt: "2026-01-01T00:11:00Z",
  };
  assert.equal(text({ idle: failed }), "10m, not suspended: hook no ended with status 1; again in 1m");
});
