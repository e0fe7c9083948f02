import { randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { SkepError, Undo, type Work } from "@skep/base";
import {
  admitForks,
  commandLine,
  type DiskLayers,
  finishReverts,
  freezeDisksAtRest,
  holdLayers,
  type LiveMachine,
  type Machine,
  type MachineFile,
  type SuspendedState,
} from "@skep/machines";
import { devicesOf, differences } from "./compat.ts";
import { failFork } from "./fork-errors.ts";
import { freezeMachine } from "./freeze.ts";
import type { Frozen, FrozenMachines } from "./frozen.ts";
import { frozenFromState } from "./frozen-state.ts";
import { announceServices, forgetServices, helperLimitMs, letServicesGo } from "./hold.ts";
import { hostRecord } from "./host-record.ts";
import { leaseSeconds } from "./identity.ts";
import { type SnapshotVolume, settleVolumes, VolumeInstant } from "./snapshot-volumes.ts";
import type { Reach } from "./standstill.ts";

/** A machine as it stood at one instant, for copies to be made of. To be disposed of when they are there. */
export interface ForkSource extends AsyncDisposable {
  context: Machine["context"];
  file: MachineFile;
  frozen: Frozen;
  layers: DiskLayers;
  /** How long the guest stood still; null where it did not run. */
  pauseMs: number | null;
  populatedMiB: number;
}

/** With what a copy of a machine needs that is no template. */
export interface TakenSource extends ForkSource {
  /** As they are in snapshots of their own, for clones. */
  volumes: readonly SnapshotVolume[];
  /** Whether these snapshots go with the last clones. */
  takesSnapshots: boolean;
  /** Where its UEFI variables are, if not in its directory. */
  efiVars?: string;
  /** The copies are there: what was made for them stays. */
  copied(): Promise<void>;
}

export interface SourceOptions {
  frozen: FrozenMachines;
  /** How many copies are to be made. */
  count: number;
  /** Whether they are to have an identity of their own. */
  identity: boolean;
  /** Also where this host may lack the memory. */
  force: boolean;
  work: Work;
  reach: Reach;
}

/** Copies that are made at the same time. */
export const copiesAtOnce = 4 * availableParallelism();

/** What a helper must know to give a copy its identity. */
const neededVerbs = "seed clock mac hostname machine-id instance replace unless sync thaw".split(" ");

/**
 * Keeps a machine as it stands, within a turn of it: one that runs goes on, one that is suspended sleeps on.
 * FORK_REFUSED, FORK_HELPER, MEMORY_SHORT_COPIES, and what a freeze, or reading a state, can fail with.
 */
export async function takeSource(machine: Machine, options: SourceOptions): Promise<TakenSource> {
  const { context, name, file } = machine;
  checkForkable(machine);
  const { count, force } = options;
  await admitForks(context, { name, memoryMiB: file.memoryMiB, count, force });
  const { suspended } = file;
  const asleep = machine.state === "suspended" && suspended !== null;
  await using undo = new Undo();
  await settleVolumes(machine);
  const instant = await VolumeInstant.plan(
    machine,
    `fork-${randomBytes(4).toString("hex")}`,
    options.work.signal,
  );
  undo.push(() => instant.undo());
  const taken = asleep
    ? await takeAsleep(machine, suspended, options, instant)
    : await takeRunning(machine, options, instant);
  undo.push(() => taken.frozen[Symbol.asyncDispose]());
  const letLayersGo = await holdLayers(context, taken.layers);
  undo.push(letLayersGo);
  await instant.complete(options.work.signal);
  undo.keep();
  return {
    ...taken,
    context,
    file: machine.file,
    volumes: instant.volumes,
    takesSnapshots: true,
    copied: () => instant.keep(),
    async [Symbol.asyncDispose]() {
      letLayersGo();
      await taken.frozen[Symbol.asyncDispose]();
      await instant.undo();
    },
  };
}

type Taken = Pick<ForkSource, "frozen" | "layers" | "pauseMs" | "populatedMiB">;

async function takeRunning(machine: Machine, options: SourceOptions, instant: VolumeInstant): Promise<Taken> {
  const { frozen, identity, work } = options;
  const reach = async (point: string) => {
    if (point === "freeze-stopped") await instant.mark(work.signal);
    await options.reach(point);
  };
  const live = machine.running();
  await checkStartsAlike(live, work.signal);
  const hold = {
    check: () => checkHelper(live, work.signal),
    begin: () => holdServices(live, work.signal),
    end: () => letServicesGo(live),
  };
  const holding = identity ? { hold } : {};
  const taken = await freezeMachine(live, { frozen, work, disks: true, reach, ...holding });
  return { ...taken, layers: taken.layers as DiskLayers };
}

async function takeAsleep(
  machine: Machine,
  { state, digest, populatedMiB }: SuspendedState,
  { frozen: all, work }: SourceOptions,
  instant: VolumeInstant,
): Promise<Taken> {
  await finishReverts(machine, work.signal);
  const frozen = await frozenFromState(all, { state, digest: digest ?? "" }, work);
  try {
    await instant.mark(work.signal);
    const layers = await freezeDisksAtRest(machine);
    return { frozen, layers, pauseMs: null, populatedMiB };
  } catch (error) {
    await frozen[Symbol.asyncDispose]();
    throw error;
  }
}

function checkForkable({ name, file, state, reason }: Machine): void {
  const refuse = (why: string, hint: string) => failFork("FORK_REFUSED", { machine: name, why, hint });
  if (process.platform !== "linux")
    throw refuse("its memory is in no file on this system", `copy its disk: skep new COPY --from ${name}`);
  if (state !== "running" && state !== "suspended") {
    const isStopped = state === "stopped";
    const start = `start it: skep start ${name}; or copy its disk: skep new COPY --from ${name}`;
    const why = `it is ${state}${reason === null ? "" : ` (${reason})`}`;
    throw refuse(why, isStopped ? start : `see: skep status ${name}`);
  }
  const going = file.volumes.find(({ detaching }) => detaching);
  if (going === undefined) return;
  const hint = `wait until the guest has, or: skep vol detach ${going.id} --force`;
  throw refuse(`its guest is to give up volume ${going.id}`, hint);
}

/** Copies are started as the machine would be now; what it was started as may be an older skep's, or QEMU's. */
async function checkStartsAlike(live: LiveMachine, signal: AbortSignal): Promise<void> {
  const { machine } = live;
  const { context, name } = machine;
  const running = await hostRecord(live, signal);
  const qemu = await context.programs.get(machine.file.arch);
  const accelerator = running.accelerator as "tcg" | "kvm" | "hvf";
  const devices = devicesOf(await commandLine(machine, qemu, { accelerator }));
  const [difference] = differences(running, { ...running, qemu: qemu.version, devices });
  if (difference === undefined) return;
  const why = `its QEMU is not as it would be started now: ${difference}`;
  throw failFork("FORK_REFUSED", { machine: name, why, hint: `restart it: skep restart ${name}` });
}

/** That its helper can give copies their identity; `more`: what else it must know. FORK_HELPER. */
export async function checkHelper(
  live: LiveMachine,
  signal: AbortSignal,
  more: readonly string[] = [],
): Promise<void> {
  if (!(await live.hasHelper())) throw lacking(live, "nothing in it listens; it may still boot");
  const known = await live.helper.ping({ signal, timeoutMs: helperLimitMs }).catch((error: unknown) => {
    throw isSilence(error) ? lacking(live, error.message, error) : error;
  });
  const unknown = [...neededVerbs, ...more].filter((verb) => !known.has(verb));
  if (unknown.length > 0) throw lacking(live, `it is an old one, which does not know: ${unknown.join(", ")}`);
}

/** Stops the guest's services for a moment, which its copies then wake up with; false where it has none to stop. */
export async function holdServices(live: LiveMachine, signal: AbortSignal): Promise<boolean> {
  const { name: machine } = live.machine;
  try {
    await announceServices(live.machine);
    const freeze = { verb: "freeze", seconds: leaseSeconds } as const;
    const [held] = await live.helper.exchange([freeze], { signal, timeoutMs: helperLimitMs });
    if (held?.outcome === "skipped") {
      await forgetServices(live.machine);
      return false;
    }
    if (held?.outcome === "done") return true;
    const hint = `see guest/PROTOCOL.md; or have copies as they are: skep fork ${machine} --no-identity`;
    throw failFork("FORK_REFUSED", { machine, why: `its services cannot be held: ${held?.why}`, hint });
  } catch (error) {
    // Cancelled, or too late: what was asked may be done all the same.
    await letServicesGo(live);
    throw isSilence(error) ? lacking(live, error.message, error) : error;
  }
}

function lacking({ machine }: LiveMachine, why: string, cause?: unknown): SkepError {
  return failFork("FORK_HELPER", { machine: machine.name, why }, { cause });
}

function isSilence(error: unknown): error is SkepError {
  return error instanceof SkepError && error.code.startsWith("HELPER_");
}
