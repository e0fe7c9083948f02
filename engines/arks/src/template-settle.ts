import { setTimeout as sleep } from "node:timers/promises";
import type { Work } from "@skep/base";
import { guestRun, type LiveMachine, processorSeconds } from "@skep/machines";
import { agentIsThere } from "./standstill.ts";

/** All of a first boot, emulated, beside other work. */
const bootLimitMs = 40 * 60_000;
/** The helper is started before the agent; a guest that has the one and not the other has no helper. */
const helperAfterAgentMs = 60_000;
const systemdLimitMs = 180_000;
const pollMs = 500;
/** Of one processor. An idle guest that is emulated takes some for its timers. */
const quietShare = 0.15;
const sampleMs = 3000;
/** What never becomes quiet is not waited for. */
const quietLimitMs = 120_000;

/**
 * Waits until a guest's first boot is over with all that belongs to it: its helper listens, cloud-init has ended,
 * its services are up, and it has nothing more to do. Fails with an error that says what did not come.
 */
export async function settle(live: LiveMachine, work: Work): Promise<{ agent: boolean }> {
  const limit = AbortSignal.timeout(bootLimitMs);
  const signal = AbortSignal.any([work.signal, limit]);
  let what = "its helper";
  try {
    await until(live, signal, () => helperListens(live, signal));
    if (await has(live, "/etc/cloud/cloud.cfg", signal)) {
      what = "the end of cloud-init";
      await until(live, signal, () => has(live, "/var/lib/cloud/instance/boot-finished", signal));
    }
    what = "its agent";
    const agent = await agentIsThere(live);
    if (agent && (await has(live, "/run/systemd/system", signal))) await systemdIsUp(live, signal);
    work.report({ phase: "waiting until its guest has nothing more to do" });
    await quiet(live, signal);
    return { agent };
  } catch (error) {
    work.signal.throwIfAborted();
    if (!limit.aborted) throw error;
    throw new Error(`${what} did not come within ${bootLimitMs / 60_000} minutes`, { cause: error });
  }
}

async function until(live: LiveMachine, signal: AbortSignal, holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) {
    if (!live.alive) throw new Error("its QEMU has ended");
    await sleep(pollMs, undefined, { signal });
  }
}

async function helperListens(live: LiveMachine, signal: AbortSignal): Promise<boolean> {
  if (await live.hasHelper()) return true;
  if (!(await agentIsThere(live))) return false;
  for (const end = performance.now() + helperAfterAgentMs; performance.now() < end; ) {
    await sleep(pollMs, undefined, { signal });
    if (await live.hasHelper()) return true;
  }
  throw new Error("its guest has no helper (docs/fork.md says how to install it)");
}

async function has({ helper }: LiveMachine, path: string, signal: AbortSignal): Promise<boolean> {
  const [result] = await helper.exchange([{ verb: "has", path }], { signal, timeoutMs: 60_000 });
  return result?.outcome === "done";
}

/** Whether some unit has failed does not matter: so it would in a machine that boots. */
async function systemdIsUp(live: LiveMachine, signal: AbortSignal): Promise<void> {
  const command = ["systemctl", "is-system-running", "--wait"];
  await guestRun(live.agent, command, { timeoutMs: systemdLimitMs, startMs: 60_000, signal });
}

async function quiet({ process }: LiveMachine, signal: AbortSignal): Promise<void> {
  const end = performance.now() + quietLimitMs;
  for (let before = await processorSeconds(process.pid); performance.now() < end; ) {
    await sleep(sampleMs, undefined, { signal });
    const now = await processorSeconds(process.pid);
    if (now - before < (quietShare * sampleMs) / 1000) return;
    before = now;
  }
}
