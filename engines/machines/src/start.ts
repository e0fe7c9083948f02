import { truncate } from "node:fs/promises";
import { join } from "node:path";
import { bootId, type Work } from "@skep/base";
import { type AcceleratorVerdict, chooseAccelerator } from "./accelerator.ts";
import { admit } from "./admission.ts";
import { clearRuntime, letFrozenGo } from "./clear-runtime.ts";
import { writeForkSeed } from "./fork-seed.ts";
import { giveTo } from "./host-user.ts";
import { joinLayers } from "./join-layers.ts";
import { commandLine, launch, monitor } from "./launch.ts";
import { finishFreezes } from "./layers.ts";
import { LiveMachine } from "./live.ts";
import { settleDiskFreeze } from "./live-freeze.ts";
import type { Machine } from "./machine.ts";
import { homePaths, memoryDirectory } from "./paths.ts";
import { prepareFiles } from "./prepare.ts";
import { findProcess, type QemuProcess, signalProcess, waitGone } from "./process.ts";
import type { Qemu } from "./qemu.ts";
import { settleVolumes } from "./settle.ts";
import { refuseSuspended } from "./suspended.ts";
import { finishSwitch } from "./switch-disks.ts";
import { finishReverts } from "./volume-reverts.ts";
import { releaseVolumes, serveVolumes } from "./volumes.ts";
import { undoWarm } from "./warm-disk.ts";

const adoptTimeoutMs = 10_000;
const quitLimitMs = 15_000;
const migrationOver = new Set(["none", "completed", "failed", "cancelled"]);

/** Starts QEMU for a stopped machine and returns once its monitor answers; the guest then boots. */
export async function startMachine(machine: Machine, work: Work, { cold = false } = {}): Promise<void> {
  if (machine.live !== undefined) return;
  const orphan = findProcess(machine.file, machine.runtime.pid);
  // Whatever it was taken for: what a machine has in memory is given up by those alone who say so.
  if (orphan === undefined && machine.atRest) machine.setState(machine.restState, machine.reason);
  refuseSuspended(machine, "boot");
  machine.setState("starting");
  if (orphan === undefined) {
    // Of a suspend or resume that ended half way: its memory will not fit the disk.
    if (machine.file.suspended !== null) await machine.save({ suspended: null });
    // Of a first start that could not be taken back: its disk is still a template's.
    if (machine.file.warming !== undefined) await giveUpOnFailure(machine, () => undoWarm(machine));
    const { context, file } = machine;
    if (file.fresh === true && !cold && (await context.startWarm(machine, work))) return;
    return await begin(machine, work);
  }
  await giveUpOnFailure(machine, async () => {
    await adoptMachine(machine, orphan);
    await settleVolumes(machine);
  });
}

/** How a saved machine comes into a QEMU that waits for it. */
export type Incoming = {
  /** Once memory is there: loads the device state. What fails here, or later, ends QEMU. */
  load(live: LiveMachine): Promise<void>;
  /** How the device state was saved: by a migration, which is the default, or by `xen-save-devices-state`. */
  deviceForm?: "migration" | "xen";
  /** Whether it was saved with the port of the helper. Default: as at its last run. */
  helper?: boolean;
} & (IncomingOwn | IncomingBorrowed);

/** The machine gets memory of its own. */
export interface IncomingOwn {
  memory?: "own";
  /** Puts a whole memory at `ramPath` before QEMU is started, where there is one; false: it has to be filled. */
  place?(ramPath: string): Promise<boolean>;
  /** Writes the guest's memory; `ramPath` has its size and reads as zeros. QEMU starts meanwhile. */
  fill(ramPath: string, signal: AbortSignal): Promise<void>;
}

/**
 * The machine borrows memory, which must be there whole, and stay: `frozen` is the frozen machine's id, `gid` the
 * group that may open its file, null where skepd is not root. Whether the host has room for what it will write is
 * asked before, by `admitForks`.
 */
export interface IncomingBorrowed {
  memory: { frozen: string; gid: number | null };
}

/**
 * Starts QEMU as `startMachine` does, but for a guest that is brought along: it stands still until it is
 * told to go on. Where this fails no QEMU is left, and the machine is what it was. It shows as `resuming`, or as
 * `starting` where it was that before (a copy that is being made).
 */
export async function launchIncoming(machine: Machine, work: Work, incoming: Incoming): Promise<void> {
  if (machine.state !== "starting") machine.setState("resuming");
  await endSaved(machine);
  await begin(machine, work, incoming);
}

/**
 * Starts QEMU for a machine that sleeps, to boot from its disk: nothing of its guest has run when `letGo` is called,
 * which has it go on. Where this fails no QEMU is left.
 */
export async function launchInstead(machine: Machine, work: Work, letGo: () => Promise<void>): Promise<void> {
  machine.setState("starting");
  await endSaved(machine);
  await giveUpOnFailure(machine, async () => {
    const { qemu, verdict } = await prepareStart(machine, work, undefined);
    await launch(machine, qemu, verdict, { more: ["-S"] });
    await orEnd(machine, letGo);
  });
}

/** One that was told to end after its state was saved, and has not heard it. */
async function endSaved(machine: Machine): Promise<void> {
  const orphan = findProcess(machine.file, machine.runtime.pid);
  if (orphan === undefined) return;
  signalProcess(orphan, "SIGKILL");
  await waitGone(orphan, adoptTimeoutMs);
}

/** Where it fails, QEMU ends. */
async function orEnd(machine: Machine, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (machine.live !== undefined) await endQemu(machine.live);
    throw error;
  }
}

/** Ends a QEMU whose guest must not go on, or has nothing left to do. */
export async function endQemu(live: LiveMachine): Promise<void> {
  live.stopRequested = true;
  await live.qmp.execute("quit", {}, { timeoutMs: quitLimitMs }).catch(() => undefined);
  if (!(await waitGone(live.process, quitLimitMs))) signalProcess(live.process, "SIGKILL");
  await live.gone;
}

async function giveUpOnFailure(machine: Machine, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (machine.live !== undefined) throw error;
    if (findProcess(machine.file, machine.runtime.pid) !== undefined) {
      // A QEMU that cannot be talked to is still the machine: nothing of it may be cleared away.
      machine.setState("running", monitorSilent);
    } else {
      await clearRuntime(machine);
      await releaseVolumes(machine);
      machine.setState(machine.restState, (error as Error).message.split("\n")[0]);
      await letFrozenGo(machine);
    }
    throw error;
  }
}

async function begin(machine: Machine, work: Work, incoming?: Incoming): Promise<void> {
  work.report({ phase: `${machine.state === "resuming" ? "resuming" : "starting"} ${machine.name}` });
  await giveUpOnFailure(machine, async () => {
    const { qemu, verdict, placed } = await prepareStart(machine, work, incoming);
    if (incoming === undefined) return await launch(machine, qemu, verdict);
    const more = ["-incoming", "defer", "-S"];
    // A stream of this form does not say what machine it is of; the caller has compared that.
    if (incoming.deviceForm === "xen") more.push("-global", "migration.send-configuration=off");
    const groups = borrowed(incoming)?.gid ?? null;
    const launchIt = () => launch(machine, qemu, verdict, { more, groups: groups === null ? [] : [groups] });
    await launchAndLoad(machine, work, incoming, { placed, launchIt });
  });
}

function borrowed(incoming: Incoming | undefined): IncomingBorrowed["memory"] | undefined {
  return typeof incoming?.memory === "object" ? incoming.memory : undefined;
}

async function launchAndLoad(
  machine: Machine,
  work: Work,
  incoming: Incoming,
  { placed, launchIt }: { placed: boolean; launchIt(): Promise<void> },
): Promise<void> {
  const failed = new AbortController();
  const signal = AbortSignal.any([work.signal, failed.signal]);
  const filling = placed ? Promise.resolve() : fill(machine, incoming, signal);
  filling.catch(() => undefined);
  await orEnd(machine, async () => {
    try {
      await launchIt();
      await filling;
      work.signal.throwIfAborted();
      await incoming.load(machine.running());
    } catch (error) {
      failed.abort(error);
      await filling.catch(() => undefined);
      throw error;
    }
  });
}

async function place({ file }: Machine, incoming: Incoming | undefined): Promise<boolean> {
  const ramPath = join(memoryDirectory(file.id), "ram");
  if (incoming === undefined || !("fill" in incoming)) return false;
  if ((await incoming.place?.(ramPath)) !== true) return false;
  await giveTo(file.uid, ramPath, 0o600);
  return true;
}

async function fill({ file }: Machine, incoming: Incoming, signal: AbortSignal): Promise<void> {
  if (!("fill" in incoming)) return;
  const ramPath = join(memoryDirectory(file.id), "ram");
  await truncate(ramPath, file.memoryMiB * 1024 ** 2);
  await incoming.fill(ramPath, signal);
}

async function chooseQemu(
  { context, file }: Machine,
  signal: AbortSignal,
): Promise<{ qemu: Qemu; verdict: AcceleratorVerdict }> {
  const qemu = await context.programs.get(file.arch);
  const verdict = await chooseAccelerator({
    arch: file.arch,
    qemu,
    cache: homePaths(context.home).accelerator,
    kernel: file.boot === null ? null : join(context.home, file.boot.kernel),
    signal,
  });
  return { qemu, verdict };
}

/** What a start of a machine without QEMU would run on this host; nothing of it is changed. */
export async function plannedStart(
  machine: Machine,
  signal: AbortSignal,
): Promise<{ qemuVersion: string; accelerator: string; argv: string[] }> {
  const { qemu, verdict } = await chooseQemu(machine, signal);
  const argv = await commandLine(machine, qemu, verdict);
  return { qemuVersion: qemu.version, accelerator: verdict.accelerator, argv };
}

/** What QEMU needs before it can be started, volumes served included. */
async function prepareStart(
  machine: Machine,
  work: Work,
  incoming: Incoming | undefined,
): Promise<{ qemu: Qemu; verdict: AcceleratorVerdict; placed: boolean }> {
  const { file } = machine;
  const frozen = borrowed(incoming)?.frozen ?? null;
  if (incoming === undefined) await admit(machine);
  const { qemu, verdict } = await chooseQemu(machine, work.signal);
  await finishSwitch(machine);
  await finishReverts(machine, work.signal);
  await settleDiskFreeze(machine);
  await finishFreezes(machine);
  if (incoming === undefined) await joinLayers(machine, work);
  if (incoming === undefined && file.seedOfSource === true) await writeForkSeed(machine, work.signal);
  if (incoming === undefined && file.fresh === true) await machine.save({ fresh: undefined });
  await prepareFiles(machine, frozen === null ? "own" : "borrowed");
  const placed = await place(machine, incoming);
  // Not before: what it makes room by may be the very memory that is placed.
  if (incoming !== undefined && frozen === null) await admit(machine);
  machine.run = {
    version: 1,
    startedAt: new Date().toISOString(),
    bootId: bootId(),
    accelerator: verdict.accelerator,
    qemuVersion: qemu.version,
    stoppedAt: null,
    reason: null,
    served: machine.run?.served ?? {},
    memory: { frozen },
    helper: incoming === undefined ? true : (incoming.helper ?? machine.run?.helper ?? true),
    freezing: null,
  };
  await serveVolumes(machine, work);
  work.signal.throwIfAborted();
  return { qemu, verdict, placed };
}

export const monitorSilent = "its monitor does not answer (is another program connected to qmp.sock?)";

/**
 * Takes over a QEMU that is running already, as after a restart of skepd; it may have been started
 * only a moment ago, and its monitor not be there yet.
 */
export async function adoptMachine(machine: Machine, process: QemuProcess): Promise<void> {
  const over = new AbortController();
  const gone = waitGone(process, adoptTimeoutMs, over.signal).catch(() => undefined);
  const giveUp = new AbortController();
  gone.then(() => giveUp.abort()).catch(() => undefined);
  try {
    const qmp = await monitor(machine.runtime.qmp, giveUp.signal);
    await LiveMachine.attach(machine, process, qmp);
  } finally {
    over.abort();
  }
  await goOnAfterFreeze(machine);
}

/** skepd was killed while it held a guest still to freeze its disks. */
async function goOnAfterFreeze(machine: Machine): Promise<void> {
  const { live, run, context } = machine;
  if (live === undefined || run === undefined || run.freezing === null) return;
  try {
    await settleDiskFreeze(machine);
    const { status } = await live.qmp.execute("query-migrate");
    if (status !== undefined && !migrationOver.has(status)) await live.qmp.execute("migrate_cancel");
    if (!(await live.qmp.execute("query-status")).running) await live.qmp.execute("cont");
  } catch (error) {
    if (!live.alive) throw error;
    context.log.error({ machine: machine.name, err: error }, "cannot bring its disks in order");
    machine.setState("paused", "its disks could not be brought in order: see skepd.log");
  }
}
