import type { StopRequest } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import { clearRuntime, letFrozenGo } from "./clear-runtime.ts";
import type { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import { findProcess, signalProcess, waitGone } from "./process.ts";
import { refuseSuspended } from "./suspended.ts";
import { releaseVolumes, volumesReady } from "./volumes.ts";

/** Default limits of each step, in milliseconds. */
const limits = { acpi: 50_000, agent: 20_000, quit: 15_000, kill: 10_000 };
/** QEMU tries every 16 s at the latest to reach a storage server that is back, and flushes to it then. */
const reconnectMs = 20_000;
/** A guest early in its boot misses a press of the power button, so it is pressed again. */
const pressEveryMs = 5000;

/**
 * Stops a machine: the power button, then the agent, then QEMU's own end (which closes the disks
 * cleanly), then SIGKILL; each step only when the one before did not do it in its time.
 */
export async function stopMachine(machine: Machine, request: StopRequest, work: Work): Promise<void> {
  const { live } = machine;
  refuseSuspended(machine, "stop");
  await storageBack(machine, request, work);
  if (live === undefined) return await endUnheard(machine, work);
  live.stopRequested = true;
  const before = machine.state;
  machine.setState("stopping");
  try {
    const asked = request.timeoutSeconds === undefined ? undefined : request.timeoutSeconds * 1000;
    // A paused guest cannot hear; one that panicked will not listen.
    const deaf = request.force === true || before === "paused";
    if (!deaf && (await pressPower(live, asked ?? limits.acpi, work))) return;
    if (
      !deaf &&
      (await askAgent(live, asked === undefined ? limits.agent : Math.min(asked, limits.agent), work))
    )
      return;
    await end(live, work);
  } catch (error) {
    if (machine.live === live && live.alive) {
      live.stopRequested = false;
      if (machine.state === "stopping") machine.setState(before);
    }
    throw error;
  }
}

/** By force a machine ends also where its volumes cannot be had: what storaged was given, it has. */
async function storageBack(machine: Machine, request: StopRequest, work: Work): Promise<void> {
  try {
    await volumesReady(machine, work.signal);
  } catch (error) {
    if (request.force !== true || work.signal.aborted) throw error;
    work.note(`the volumes of ${machine.name} are not served: ${(error as Error).message}`);
  }
}

/** A QEMU whose monitor somebody else holds still ends cleanly at SIGTERM. */
async function endUnheard(machine: Machine, work: Work): Promise<void> {
  if (machine.state === "stopped") return;
  const process = findProcess(machine.file, machine.runtime.pid);
  if (process !== undefined) {
    work.report({ phase: `ending ${machine.name}` });
    signalProcess(process, "SIGTERM");
    if (!(await waitGone(process, limits.quit))) {
      signalProcess(process, "SIGKILL");
      await waitGone(process, limits.kill);
    }
    await clearRuntime(machine);
    await letFrozenGo(machine);
    await releaseVolumes(machine);
  }
  machine.setState(machine.restState);
}

async function goneWithin(live: LiveMachine, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  if (!(await waitGone(live.process, timeoutMs, signal))) return false;
  await live.gone;
  return true;
}

async function pressPower(live: LiveMachine, limitMs: number, work: Work): Promise<boolean> {
  work.report({ phase: `shutting ${live.machine.name} down` });
  const until = performance.now() + limitMs;
  do {
    try {
      await live.qmp.execute("system_powerdown", {}, { timeoutMs: 5000, signal: work.signal });
    } catch (error) {
      if (work.signal.aborted) throw error;
      return goneWithin(live, 1000);
    }
    const left = Math.max(0, until - performance.now());
    if (await goneWithin(live, Math.min(left, pressEveryMs), work.signal)) return true;
  } while (performance.now() < until);
  return false;
}

async function askAgent(live: LiveMachine, limitMs: number, work: Work): Promise<boolean> {
  work.note(`${live.machine.name} does not react to its power button; asking its agent`);
  try {
    await live.agent.ping({ timeoutMs: 3000, signal: work.signal });
    await live.agent.shutdown("powerdown", { timeoutMs: 5000, signal: work.signal });
  } catch (error) {
    if (work.signal.aborted) throw error;
    return goneWithin(live, 0);
  }
  return goneWithin(live, limitMs, work.signal);
}

/** From here on there is no way back, so cancelling no longer counts. */
async function end(live: LiveMachine, work: Work): Promise<void> {
  work.report({ phase: `ending ${live.machine.name}` });
  await live.qmp.execute("quit", {}, { timeoutMs: 5000 }).catch(() => undefined);
  const patience = live.machine.file.volumes.length > 0 ? reconnectMs : 0;
  if (await goneWithin(live, limits.quit + patience)) return;
  work.note(`QEMU of ${live.machine.name} does not end; killing it`);
  signalProcess(live.process, "SIGKILL");
  await goneWithin(live, limits.kill);
}
