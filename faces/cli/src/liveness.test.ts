import assert from "node:assert/strict";
import { test } from "node:test";
import type { Machine } from "@skep/api";
import { checkText, parseCheck, parseRestart, restartsText } from "./liveness.ts";

test("restart policies are read, and others refused", () => {
  assert.deepEqual(parseRestart("no"), { policy: "no" });
  assert.deepEqual(parseRestart("always"), { policy: "always" });
  assert.deepEqual(parseRestart("on-failure:3"), { policy: "on-failure", attempts: 3 });
  for (const value of ["", "yes", "always:3", "on-failure:0", "on-failure:", "on-failure:-1", "no:1"]) {
    assert.throws(() => parseRestart(value), { code: "USAGE" }, value);
  }
});

test("checks are read, and others refused", () => {
  assert.equal(parseCheck({}), undefined);
  assert.deepEqual(parseCheck({ check: "agent" }), { kind: "agent" });
  assert.deepEqual(parseCheck({ check: "tcp:22" }), { kind: "tcp", port: 22 });
  assert.deepEqual(
    parseCheck({
      check: "http:80/a:b",
      checkInterval: "1m",
      checkTimeout: "500ms",
      checkFailures: "2",
      checkStart: "0s",
    }),
    {
      kind: "http",
      port: 80,
      path: "/a:b",
      intervalSeconds: 60,
      timeoutSeconds: 0.5,
      failures: 2,
      startSeconds: 0,
    },
  );
  const line = "pgrep x &&\n curl -s localhost:80";
  assert.deepEqual(parseCheck({ check: `command:${line}` }), { kind: "command", command: line });
  for (const check of [
    "",
    "tcp",
    "tcp:",
    "tcp:0",
    "tcp:65536",
    "tcp:80/x",
    "http:x",
    "ping",
    "command:",
    "command: ",
  ]) {
    assert.throws(() => parseCheck({ check }), { code: "USAGE" }, check);
  }
  assert.throws(() => parseCheck({ checkInterval: "3s" }), { code: "USAGE" });
  assert.throws(() => parseCheck({ check: "agent", checkFailures: "none" }), { code: "USAGE" });
});

test("a person reads what a check says, and what was done", () => {
  const since = new Date(Date.now() - 90_000).toISOString();
  const check = { kind: "http", port: 80, path: "/", command: null } as Machine["check"];
  const machine = {
    state: "running",
    check,
    liveness: { state: "failing", since, failures: 3, why: "HTTP status 500" },
  };
  assert.equal(checkText(machine as Machine), "http:80/, failing since 1m: HTTP status 500");
  const restarts = { count: 2, inARow: 2, lastAt: since, why: "guest panicked", dueAt: null, gaveUp: true };
  assert.equal(restartsText({ restarts } as Machine), "2, the last 1m ago (guest panicked); given up");
});
