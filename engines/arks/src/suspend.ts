import { SkepError, Undo, type Work } from "@skep/base";
import { endQemu, failMachine, type LiveMachine, type Machine, volumesReady } from "@skep/machines";
import { beginState, commitState, removeState } from "./commit.ts";
import { packDevice } from "./device.ts";
import { fail } from "./errors.ts";
import type { FrozenMachines } from "./frozen.ts";
import { hostRecord } from "./host-record.ts";
import { writeManifest } from "./manifest.ts";
import { copyMemory, type MemoryCopy, memoryInUse, ramOf } from "./memory-copy.ts";
import { deviceForm, readDevices } from "./migration.ts";
import { packMemory } from "./pack.ts";
import { newStateId, statesDirectory } from "./paths.ts";
import { checkRoom } from "./room.ts";
import { agentIsThere, flush, goOn, isGone, type Reach, savedMachine, standStill } from "./standstill.ts";
import type { DeviceRecord, MemoryRecord, StateManifest } from "./types.ts";

const mebibyte = 1024 ** 2;

export interface SuspendOptions {
  work: Work;
  reach: Reach;
  frozen: FrozenMachines;
  /** It is suspended because nobody uses it. */
  idle?: boolean;
}

/**
 * Saves a running machine and ends its QEMU, within a turn of the machine. The rename of the state's
 * directory is the one point that counts: what fails before it, or is cancelled, has the guest go on and
 * leaves nothing; nothing after it can be cancelled.
 */
export async function suspendMachine(
  machine: Machine,
  { work, reach, frozen, idle = false }: SuspendOptions,
): Promise<void> {
  const live = machine.running();
  const { home } = machine.context;
  const { signal } = work;
  await volumesReady(machine, signal);
  await checkRoom(home, machine.name, await memoryInUse(live));
  const host = await hostRecord(live, signal);
  const agent = await agentIsThere(live);
  const { id, directory } = await beginState(home);
  try {
    machine.setState("suspending");
    const why = idle ? ({ idle: true } as const) : {};
    const intent = { phase: "saving", state: id, digest: null, agent, ...why } as const;
    const none = { populatedMiB: 0, storedBytes: 0, pauseMs: 0 };
    await machine.save({ suspended: { ...intent, at: new Date().toISOString(), ...none } });
    await reach("intent");
    work.report({ phase: `suspending ${machine.name}` });
    await using source = await memorySource(live, frozen, signal);
    await flush(live, signal);
    await source.copy?.begin();
    const stopped = performance.now();
    const at = new Date().toISOString();
    await standStill(live, signal);
    await reach("stopped");
    const stream = await readDevices(live, signal);
    const device = await packDevice({ from: stream, form: deviceForm(live), directory, signal });
    const pauseMs = Math.round(performance.now() - stopped);
    await reach("device");
    await source.copy?.finish();
    const memory = await packMemory({
      ramPath: source.ramPath,
      memoryBytes: machine.file.memoryMiB * mebibyte,
      directory,
      idle: frozen.idle,
      signal,
      onProgress: (done, total) =>
        work.report({ phase: `storing the memory of ${machine.name}`, done, total, unit: "bytes" }),
    });
    await reach("packed");
    const manifest: StateManifest = {
      version: 1,
      id,
      kind: "suspend",
      createdAt: at,
      machine: savedMachine(live),
      host,
      memory,
      device,
      pauseMs,
    };
    const digest = await writeManifest(directory, manifest);
    signal.throwIfAborted();
    if (!live.alive) throw failMachine("QEMU_GONE", { name: machine.name, reason: "QEMU ended" });
    await commitState(home, id);
    await reach("committed");
    const durable = { at, pauseMs: Math.round(performance.now() - stopped), ...sizes(memory, device) };
    await machine.save({ suspended: { ...intent, phase: "saved", digest, ...durable } });
  } catch (error) {
    throw await takeBack(machine, live, id, agent, error);
  }
  await reach("saved");
  const { digest } = machine.file.suspended ?? {};
  const kept = live.frozen === null && digest != null && (await frozen.kept.begin(id, ramOf(live)));
  await endQemu(live);
  if (kept) await frozen.kept.finish(id, digest);
  machine.setState("suspended");
}

/** Where memory is packed from: a file that QEMU shares, or a copy that has all that it has borrowed or is its own. */
interface MemorySource extends AsyncDisposable {
  ramPath: string;
  copy?: MemoryCopy;
}

async function memorySource(
  live: LiveMachine,
  frozen: FrozenMachines,
  signal: AbortSignal,
): Promise<MemorySource> {
  const undo = new Undo();
  const dispose = { [Symbol.asyncDispose]: () => undo[Symbol.asyncDispose]() };
  if (live.frozen === null) return { ramPath: ramOf(live), ...dispose };
  try {
    const promise = await frozen.admit(live.machine.name, await memoryInUse(live));
    undo.push(() => promise[Symbol.dispose]());
    const draft = await frozen.begin(newStateId());
    undo.push(() => draft[Symbol.asyncDispose]());
    const copy = await copyMemory(live, draft.ramPath, { idle: frozen.idle, signal });
    undo.push(() => copy[Symbol.asyncDispose]());
    return { ramPath: draft.ramPath, copy, ...dispose };
  } catch (error) {
    await undo[Symbol.asyncDispose]();
    throw error;
  }
}

/** As `machine.json` and the faces have it. */
export function sizes(
  memory: MemoryRecord,
  device: DeviceRecord,
): { populatedMiB: number; storedBytes: number } {
  return {
    populatedMiB: Math.round(memory.populatedBytes / mebibyte),
    storedBytes: memory.packBytes + memory.index.bytes + device.storedBytes,
  };
}

/**
 * After a failure: the state goes, the guest goes on. Gives the error that says so. While the state is there
 * and named, the guest must not run: a later start would take it for the newer of the two.
 */
async function takeBack(
  machine: Machine,
  live: LiveMachine,
  id: string,
  agent: boolean,
  error: unknown,
): Promise<unknown> {
  const { context, name } = machine;
  const removed = await removeState(context.home, id).then(() => true, notTakenBack(machine, "state"));
  const forgotten = await machine.save({ suspended: null }).then(() => true, notTakenBack(machine, "record"));
  const gone = await isGone(live, error);
  if (gone !== undefined) return gone;
  if (!removed && !forgotten) {
    machine.setState("paused", "its suspend could not be taken back: see skepd.log");
    return error;
  }
  try {
    await goOn(live, agent);
  } catch (failure) {
    context.log.error({ machine: name, err: failure }, "cannot let the guest go on");
    machine.setState("paused", "it could not go on after its suspend failed");
    return error;
  }
  if (error instanceof SkepError || (error as Error).name === "AbortError") return error;
  const full = (error as NodeJS.ErrnoException).code === "ENOSPC";
  const why = full ? `no space is left in ${statesDirectory(context.home)}` : (error as Error).message;
  return fail("STATE_UNSAVED", { machine: name, why }, { cause: error });
}

function notTakenBack(machine: Machine, what: string): (error: unknown) => false {
  return (error) => {
    machine.context.log.error({ machine: machine.name, err: error }, `cannot take back the ${what}`);
    return false;
  };
}
