import type { LiveMachine } from "@skep/machines";
import type { GuestAgent } from "@skep/qmp";

const limitMs = 5000;
const toleranceMs = 2000;

interface Limits {
  signal: AbortSignal;
  timeoutMs: number;
}

/** Sets the guest's clock to the host's, where its agent answers; false where that did not do it. */
export async function setClock({ agent }: LiveMachine, signal: AbortSignal): Promise<boolean> {
  const limits = { signal, timeoutMs: limitMs };
  for (const set of [setByAgent, setByProgram]) {
    try {
      await set(agent, limits);
    } catch (error) {
      // It can have set the clock all the same, as in a guest without `hwclock`.
      if ((error as { code?: string }).code !== "AGENT_ERROR") return false;
    }
    const nanoseconds = await agent.call<number>("guest-get-time", {}, limits).catch(() => 0);
    if (Math.abs(nanoseconds / 1e6 - Date.now()) < toleranceMs) return true;
  }
  return false;
}

async function setByAgent(agent: GuestAgent, limits: Limits): Promise<void> {
  await agent.call("guest-set-time", { time: Date.now() * 1e6 }, limits);
}

/** For an agent that cannot: coreutils' `date` and busybox's take the same. */
async function setByProgram(agent: GuestAgent, limits: Limits): Promise<void> {
  const pid = await agent.exec(
    { path: "/bin/sh", args: ["-c", `date -u -s @${Math.round(Date.now() / 1000)}`] },
    limits,
  );
  for (let status = await agent.execStatus(pid, limits); !status.exited; ) {
    limits.signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 20));
    status = await agent.execStatus(pid, limits);
  }
}
