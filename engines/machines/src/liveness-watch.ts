import { setTimeout as sleep } from "node:timers/promises";
import type { LivenessCheck } from "@skep/api/schemas";
import type { LiveMachine } from "./live.ts";
import { liveness, startLimit } from "./liveness.ts";
import { probe } from "./liveness-probe.ts";

/** How often a guest that boots is asked, where its interval is longer. */
const startIntervalMs = 5000;

/**
 * Asks a guest again and again until the signal, and keeps what it says as the machine's `liveness`. Calls `told`
 * after every check that says something new, and after every one while the guest counts as failing. A guest that
 * stands still is not asked, nor one whose ports somebody else listens on.
 */
export async function watchLiveness(
  live: LiveMachine,
  check: LivenessCheck,
  signal: AbortSignal,
  told: () => Promise<void>,
): Promise<void> {
  const { machine } = live;
  machine.liveness = liveness("waiting");
  for (;;) {
    const { state, transitions, forwardsHeld } = machine;
    const isAsked = state === "running" && !forwardsHeld;
    const why = isAsked ? await probe(live, check, signal) : undefined;
    // What was stopped meanwhile, or found its port closed or held, says nothing of the guest.
    if (!isAsked || machine.forwardsHeld || machine.transitions !== transitions) {
      machine.liveness = { ...(machine.liveness ?? liveness("waiting")), failures: 0 };
    } else if (note(live, check, why)) await told();
    signal.throwIfAborted();
    const booting = machine.liveness?.state === "waiting";
    const intervalMs = check.intervalSeconds * 1000;
    await sleep(booting ? Math.min(intervalMs, startIntervalMs) : intervalMs, undefined, {
      signal,
      ref: false,
    });
  }
}

/** Takes up a result; true where somebody has to hear of it. */
function note({ machine }: LiveMachine, check: LivenessCheck, why: string | undefined): boolean {
  const before = machine.liveness ?? liveness("waiting");
  if (why === undefined) {
    if (before.state === "passing") machine.liveness = { ...before, failures: 0, why: null };
    else machine.liveness = liveness("passing");
    return before.state !== "passing";
  }
  const limit = startLimit(check, machine.run?.startedAt ?? "", machine.run?.accelerator);
  const early = before.state === "waiting" && Date.now() < limit;
  const failures = early ? 0 : before.failures + 1;
  if (failures < check.failures || before.state === "failing") {
    machine.liveness = { ...before, failures, why };
    return before.state === "failing";
  }
  machine.liveness = liveness("failing", failures, why);
  return true;
}
