import { SkepError, Undo, type Work } from "@skep/base";
import {
  abandonDiskFreeze,
  commitDiskFreeze,
  type DiskLayers,
  type LiveMachine,
  prepareDiskFreeze,
  volumesReady,
} from "@skep/machines";
import { fail } from "./errors.ts";
import type { Frozen, FrozenMachines } from "./frozen.ts";
import { announceHold, forgetHold } from "./hold.ts";
import { hostRecord } from "./host-record.ts";
import { copyMemory, memoryInUse } from "./memory-copy.ts";
import { deviceForm, readDevices } from "./migration.ts";
import { newStateId } from "./paths.ts";
import { agentIsThere, flush, isGone, type Reach, savedMachine, whileStill } from "./standstill.ts";
import { together } from "./together.ts";

const mebibyte = 1024 ** 2;

export interface FreezeOptions {
  frozen: FrozenMachines;
  /** Cancelled before the disks are frozen, it leaves the machine as it was. */
  work: Work;
  /** Whether its disks are frozen at the same instant; else they go on changing. */
  disks: boolean;
  hold?: Hold;
  reach: Reach;
}

/** Of a guest's services, which its copies then wake up with. */
export interface Hold {
  /** While the guest runs and nothing waits: fails where its helper could not do it. */
  check(): Promise<void>;
  /** From then on they stand still; false where it has none. */
  begin(): Promise<boolean>;
  /** Called where it began, once the guest goes on. */
  end(): Promise<void>;
}

export interface Freezing {
  /** To be disposed of by the caller. */
  frozen: Frozen;
  /** What the machine's disks, and those of its copies, are overlays of; null where `disks` was not asked for. */
  layers: DiskLayers | null;
  /** How long the guest stood still; its services were held a little longer. */
  pauseMs: number;
  /** How much of its memory was copied. */
  populatedMiB: number;
}

/**
 * Keeps a running machine as it stands at one instant, within a turn of it; it goes on after a short pause.
 * Whatever fails before its disks are frozen leaves it running as it was, and nothing behind; after that, too,
 * but on one more layer. STATE_NOT_RUNNING, MEMORY_SHORT, STATE_UNFROZEN, QEMU_GONE.
 */
export async function freezeMachine(live: LiveMachine, options: FreezeOptions): Promise<Freezing> {
  const { machine } = live;
  const { frozen, work, hold, reach } = options;
  const { signal } = work;
  await volumesReady(machine, signal);
  const host = await hostRecord(live, signal);
  const agent = await agentIsThere(live);
  try {
    using _promise = await frozen.admit(machine.name, await memoryInUse(live));
    await using draft = await frozen.begin(newStateId());
    await using copy = await copyMemory(live, draft.ramPath, { idle: frozen.idle, signal });
    await using undo = new Undo();
    // While its memory is copied, which takes longer.
    const prepare = async () => {
      const prepared = options.disks ? await prepareDiskFreeze(live, signal) : null;
      if (prepared !== null) undo.push(() => abandonDiskFreeze(live));
      await flush(live, signal);
      await hold?.check();
      return prepared;
    };
    const [disks] = await together(prepare, () => copy.begin());
    await reach("freeze-copied");
    const slicesFrozen = (await hold?.begin()) ?? false;
    await using held = new Undo();
    if (slicesFrozen) held.push(() => hold?.end());
    await reach("freeze-held");
    const createdAt = new Date().toISOString();
    const act = async () => {
      await reach("freeze-stopped");
      const [stream] = await together(
        () => readDevices(live, signal),
        () => copy.finish(),
      );
      await reach("freeze-copied-still");
      const saved = savedMachine(live);
      signal.throwIfAborted();
      if (disks !== null) await commitDiskFreeze(live, disks);
      await reach("freeze-disks");
      return { stream, saved };
    };
    await announceHold(machine);
    undo.push(() => (machine.state === "paused" ? undefined : forgetHold(machine)));
    const { stream, saved, pauseMs } = await whileStill(live, agent, signal, act);
    await reach("freeze-running");
    await held[Symbol.asyncDispose]();
    await forgetHold(machine);
    undo.keep();
    const made = await draft.keep({
      createdAt,
      machine: saved,
      host,
      device: { form: deviceForm(live), stream },
      memoryBytes: machine.file.memoryMiB * mebibyte,
      pauseMs,
      slicesFrozen,
    });
    await reach("freeze-made");
    const populatedMiB = Math.round(made.record.populatedBytes / mebibyte);
    return { frozen: made, layers: disks?.layers ?? null, pauseMs, populatedMiB };
  } catch (error) {
    throw (await isGone(live, error)) ?? readable(live, error);
  }
}

function readable({ machine }: LiveMachine, error: unknown): unknown {
  if (error instanceof SkepError || (error as Error).name === "AbortError") return error;
  const full = (error as NodeJS.ErrnoException).code === "ENOSPC";
  const why = full ? "no space is left in /dev/shm, or on the disk" : (error as Error).message;
  return fail("STATE_UNFROZEN", { machine: machine.name, why }, { cause: error });
}
