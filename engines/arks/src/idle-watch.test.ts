import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { LiveMachine } from "@skep/machines";
import { watchIdle } from "./idle-watch.ts";

test("somebody who calls a suspend off has used the machine just then", async (t) => {
  const qemu = spawn("sleep", ["1000"], { stdio: "ignore" });
  const over = new AbortController();
  t.after(async () => {
    over.abort();
    qemu.kill();
    await once(qemu, "close");
  });
  const machine = {
    state: "running",
    file: { ports: [] },
    uses: { inUse: false, endedAt: performance.now() },
    idle: null as { since: string } | null,
  };
  const live = { machine, console: { isWatched: false }, process: { pid: qemu.pid }, alive: true };
  let calledOff = Number.POSITIVE_INFINITY;
  const watching = watchIdle(live as unknown as LiveMachine, 100, {
    signal: over.signal,
    times: { lookMs: { shortest: 10, longest: 10 }, retryMs: { first: 10, longest: 10 } },
    async suspend() {
      await sleep(20);
      calledOff = Math.min(calledOff, Date.now());
      return "used";
    },
  });
  watching.catch(() => undefined);
  const since = () => Date.parse(machine.idle?.since ?? "");
  while (!(since() >= calledOff - 1)) await sleep(5); // a millisecond is lost where it is written down
  over.abort();
  await assert.rejects(watching, { name: "AbortError" });
});
