import { setImmediate as nextTurn } from "node:timers/promises";
import type { Work } from "@skep/base";
import { SkepError } from "@skep/base";
import {
  failMachine,
  type LiveMachine,
  launchIncoming,
  launchInstead,
  type Machine,
  type SuspendedState,
} from "@skep/machines";
import { QmpError } from "@skep/qmp";
import { setClock } from "./clock.ts";
import { hasHelperPort } from "./compat.ts";
import { unpackDevice } from "./device.ts";
import { fail } from "./errors.ts";
import type { FrozenMachines } from "./frozen.ts";
import { heard } from "./heard.ts";
import { type HookRequest, runAfterResume } from "./hooks.ts";
import { checkFits, hostRecord } from "./host-record.ts";
import { readManifest } from "./manifest.ts";
import { hasConfiguration, loadDevices } from "./migration.ts";
import { stateDirectory } from "./paths.ts";
import { releaseState } from "./snapshot-uses.ts";
import type { Reach } from "./standstill.ts";
import type { StateManifest } from "./types.ts";
import { unpackMemory } from "./unpack.ts";

const mebibyte = 1024 ** 2;
/** On a busy host. */
const clockLimitMs = 10_000;
/** For `heard`: it was there when the state was saved. */
const listenLimitMs = 500;

export interface ResumeOptions {
  frozen: FrozenMachines;
  work: Work;
  reach: Reach;
  /** Of those for after a resume, which are run before what it slept on is removed: that would take time from them. */
  hooks?: HookRequest;
  /** Called when the guest goes on. */
  goesOn?(): void;
}

/**
 * Has a suspended machine go on, within a turn of the machine. Until the guest runs, whatever fails leaves it
 * suspended; from then on its memory is given up, for the disk is not the one that it knows.
 */
export async function resumeMachine(
  machine: Machine,
  suspended: SuspendedState,
  { frozen, work, reach, hooks = {}, goesOn }: ResumeOptions,
): Promise<void> {
  const { home } = machine.context;
  const directory = stateDirectory(home, suspended.state);
  const manifest = await readOwnManifest(machine, suspended, directory);
  const { version } = await machine.context.programs.get(machine.file.arch);
  const { arch, machineType } = machine.file;
  checkFits(machine, manifest, { qemu: version, arch, machineType });
  const state = await unpackDevice({ directory, manifest });
  let told = false;
  let going: Going | undefined;
  try {
    await launchIncoming(machine, work, {
      deviceForm: hasConfiguration(state) ? "migration" : "xen",
      helper: hasHelperPort(manifest.host),
      place: (into) =>
        frozen.kept.take(suspended.state, {
          digest: suspended.digest ?? "",
          bytes: manifest.memory.bytes,
          into,
        }),
      fill: (ramPath, signal) => {
        const onProgress = (done: number, total: number) =>
          work.report({ phase: `loading the memory of ${machine.name}`, done, total, unit: "bytes" });
        return unpackMemory({ directory, manifest, into: ramPath, idle: frozen.idle, signal, onProgress });
      },
      async load(live) {
        checkFits(machine, manifest, await hostRecord(live, work.signal));
        // Before the load: the saved port may have a host that listens.
        if (hasHelperPort(manifest.host)) await live.helper.connect({ signal: work.signal });
        await load(live, state, work.signal);
        await reach("loaded");
        work.signal.throwIfAborted();
        const without = hooks.hooks === false ? ({ hooks: false } as const) : {};
        await machine.save({ suspended: { ...suspended, phase: "resuming", ...without } });
        await reach("resuming");
        // One that is gone has not heard it for certain: then the memory is still good.
        if (!live.alive) throw failMachine("QEMU_GONE", { name: machine.name, reason: "QEMU ended" });
        told = true;
        going = await goOn(live, hasHelperPort(manifest.host)).catch((error: unknown) => {
          // QEMU says no before the guest runs: somebody else holds a disk of it, say.
          if (error instanceof QmpError) told = false;
          throw error;
        });
        machine.setState("running");
      },
    });
  } catch (error) {
    if (told) await giveUp(machine, suspended.state);
    else if (machine.file.suspended?.phase === "resuming") await machine.save({ suspended });
    // Who cancelled it knows why it sleeps on.
    machine.setState(machine.restState, work.signal.aborted ? null : machine.reason);
    throw error;
  }
  await reach("running");
  try {
    if (await going?.clockSet) machine.setReady("helper");
    else if (suspended.agent) await setClockByAgent(machine, work);
    goesOn?.();
    if (suspended.agent) await runAfterResume(machine, hooks, work);
  } finally {
    await giveUp(machine, suspended.state);
  }
}

async function setClockByAgent({ live, name }: Machine, work: Work): Promise<void> {
  if (live === undefined || (await setClock(live, work.signal))) return;
  work.note(`the agent of ${name} does not answer: its clock is where it was`);
}

/**
 * Boots from the disk, as after a power cut, which gives the memory up. Where QEMU cannot be started, or is told to
 * end before its guest has begun, it sleeps on.
 */
export async function bootInstead(
  machine: Machine,
  suspended: SuspendedState,
  { work, reach }: Pick<ResumeOptions, "work" | "reach">,
): Promise<void> {
  let told = false;
  try {
    await launchInstead(machine, work, async () => {
      await reach("boot-launched");
      work.signal.throwIfAborted();
      // Whoever finds this has the guest go on, and has nothing to tell it.
      await machine.save({ suspended: { ...suspended, phase: "resuming", agent: false } });
      await reach("boot-told");
      const live = machine.running();
      if (!live.alive) throw failMachine("QEMU_GONE", { name: machine.name, reason: "QEMU ended" });
      told = true;
      await live.qmp.execute("cont").catch((error: unknown) => {
        if (error instanceof QmpError) told = false;
        throw error;
      });
      machine.setState("running");
    });
  } catch (error) {
    if (told) await giveUp(machine, suspended.state);
    else if (machine.file.suspended?.phase === "resuming") await machine.save({ suspended });
    machine.setState(machine.restState, work.signal.aborted ? null : machine.reason);
    throw error;
  }
  await giveUp(machine, suspended.state);
}

/** Its record first: a state that nobody names is removed at the next start at the latest. A snapshot's stays. */
export async function giveUp(machine: Machine, state: string): Promise<void> {
  await machine.save({ suspended: null });
  await releaseState(machine, state);
}

async function readOwnManifest(
  machine: Machine,
  { state, digest }: SuspendedState,
  directory: string,
): Promise<StateManifest> {
  const found = await readManifest(directory);
  const { manifest } = found;
  if (found.digest !== digest) {
    const why = `its digest is ${found.digest} instead of ${digest}`;
    throw fail("STATE_DAMAGED", { state, object: "manifest.json", why });
  }
  const refuse = (difference: string) => fail("STATE_MISFIT", { machine: machine.name, difference });
  if (manifest.machine.id !== machine.file.id) throw refuse(`it is that of machine ${manifest.machine.id}`);
  const mib = manifest.memory.bytes / mebibyte;
  if (mib !== machine.file.memoryMiB) {
    throw refuse(`it was saved with ${mib} MiB of memory, and the machine has ${machine.file.memoryMiB}`);
  }
  return manifest;
}

interface Going {
  /** Whether its helper has set its clock. */
  clockSet: Promise<boolean>;
}

/** Where it has a helper, that sets the clock, and so is the first to answer: it need not be started. */
async function goOn(live: LiveMachine, hasPort: boolean): Promise<Going> {
  const limits = { timeoutMs: clockLimitMs };
  const asked = hasPort ? live.helper.exchange([{ verb: "clock", unixMs: Date.now() }], limits) : undefined;
  const clockSet = asked?.then(
    ([result]) => result?.outcome === "done",
    () => false,
  );
  await nextTurn(); // it is written by now
  await live.qmp.execute("cont");
  if (clockSet === undefined) return { clockSet: Promise.resolve(false) };
  return { clockSet: heard(clockSet, { live, limitMs: listenLimitMs, unheard: () => false }) };
}

async function load(live: LiveMachine, state: Uint8Array, signal: AbortSignal): Promise<void> {
  try {
    await loadDevices(live, state, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof SkepError && error.code.startsWith("STATE_")) throw error;
    throw fail(
      "STATE_UNLOADED",
      { machine: live.machine.name, why: (error as Error).message },
      { cause: error },
    );
  }
}
