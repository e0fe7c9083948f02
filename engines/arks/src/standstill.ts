import { abandonDiskFreeze, failMachine, type LiveMachine } from "@skep/machines";
import { setClock } from "./clock.ts";
import { fail } from "./errors.ts";
import type { JsonValue, SavedMachine } from "./types.ts";

/** Called between steps; tests end a process there. */
export type Reach = (point: string) => Promise<void> | void;

/** Stopping flushes every disk, and a volume's server may be just coming back. */
const stopLimitMs = 60_000;

/** What is flushed while the guest runs is not waited for while it stands still. */
export async function flush({ machine, qmp }: LiveMachine, signal: AbortSignal): Promise<void> {
  const { disk, dataDisks, volumes } = machine.file;
  // By device: the node below one changes when its disk is frozen.
  const devices = [
    ...(disk === null ? [] : ["-d disk-root"]),
    ...dataDisks.map((_, index) => `-d disk-data-${index}`),
    ...volumes
      .filter(({ readOnly }) => !readOnly)
      .map(({ id, role }) => (role === "efi" ? id : `-d disk-${id}`)),
  ];
  for (const device of devices) {
    await qmp.hmp(`qemu-io ${device} flush`, { timeoutMs: stopLimitMs, signal });
  }
}

export async function agentIsThere({ qmp }: LiveMachine): Promise<boolean> {
  const chardevs = await qmp.execute("query-chardev");
  return chardevs.some(({ label, "frontend-open": open }) => label === "agent" && open);
}

/** Stops a guest that runs. STATE_NOT_RUNNING where somebody else has stopped it meanwhile. */
export async function standStill({ machine, qmp }: LiveMachine, signal: AbortSignal): Promise<void> {
  if (machine.state === "paused") {
    const why = `it is paused${machine.reason === null ? "" : ` (${machine.reason})`}`;
    const hint = `see: skep status ${machine.name}`;
    throw fail("STATE_NOT_RUNNING", { machine: machine.name, why, hint });
  }
  await qmp.execute("stop", {}, { timeoutMs: stopLimitMs, signal });
}

/** Has a guest go on that was stopped for its state to be saved; `agent`: its clock is set. */
export async function goOn(live: LiveMachine, agent: boolean): Promise<void> {
  const { status } = await live.qmp.execute("query-migrate");
  if (status !== undefined && !["completed", "failed", "cancelled", "none"].includes(status)) {
    await live.qmp.execute("migrate_cancel");
  }
  await live.qmp.execute("cont");
  live.machine.setState("running");
  if (agent) await setClock(live, AbortSignal.timeout(stopLimitMs));
}

/**
 * What is done between stop and cont, and how long that was. Where it fails the guest goes on, unless it cannot be
 * told which disks it goes on with.
 */
export async function whileStill<T extends object>(
  live: LiveMachine,
  agent: boolean,
  signal: AbortSignal,
  act: () => Promise<T>,
): Promise<T & { pauseMs: number }> {
  const { machine } = live;
  live.held = true;
  try {
    const stopped = performance.now();
    await standStill(live, signal);
    const done = await act();
    await live.qmp.execute("cont");
    return { ...done, pauseMs: Math.round(performance.now() - stopped) };
  } catch (error) {
    if (machine.state !== "running" || !live.alive) throw error;
    try {
      await abandonDiskFreeze(live);
      await goOn(live, agent);
    } catch (failure) {
      machine.context.log.error({ machine: machine.name, err: failure }, "cannot let the guest go on");
      machine.setState("paused", "it could not go on after it was held still: see skepd.log");
    }
    throw error;
  } finally {
    live.held = false;
  }
}

/** That its QEMU has ended, where it has: whatever else is said of it then is but a consequence. */
export async function isGone(live: LiveMachine, cause: unknown): Promise<Error | undefined> {
  const { machine } = live;
  if (live.alive) return undefined;
  await live.gone;
  return failMachine("QEMU_GONE", { name: machine.name, reason: machine.reason ?? "QEMU ended" }, { cause });
}

/** As a record has it: what it is, without what is being done with it. */
export function savedMachine({ machine }: LiveMachine): SavedMachine {
  const { suspended: _, ...file } = machine.file;
  return JSON.parse(JSON.stringify(file)) as SavedMachine & JsonValue;
}
