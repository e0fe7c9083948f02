import { stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { formatSize, SkepError, type Work } from "@skep/base";
import {
  endQemu,
  failMachine,
  type LiveMachine,
  type Machine,
  memoryDirectory,
  volumesReady,
} from "@skep/machines";
import { setClock } from "./clock.ts";
import { beginState, commitState, removeState } from "./commit.ts";
import { fail } from "./errors.ts";
import { hostRecord } from "./host-record.ts";
import { writeManifest } from "./manifest.ts";
import { saveDevices } from "./migration.ts";
import { packMemory } from "./pack.ts";
import { statesDirectory } from "./paths.ts";
import type { DeviceRecord, JsonValue, MemoryRecord, StateManifest } from "./types.ts";

/** Called between steps; tests end a process there. */
export type Reach = (point: string) => Promise<void> | void;

const mebibyte = 1024 ** 2;
/** Idle guests' memory shrinks to less than a third; where more is needed, it is found out while packing. */
const leastShare = 1 / 4;
const spareBytes = 32 * mebibyte;
/** Stopping flushes every disk, and a volume's server may be just coming back. */
const stopLimitMs = 60_000;

/**
 * Saves a running machine and ends its QEMU, within a turn of the machine. The rename of the state's
 * directory is the one point that counts: what fails before it, or is cancelled, has the guest go on and
 * leaves nothing; nothing after it can be cancelled.
 */
export async function suspendMachine(machine: Machine, work: Work, reach: Reach): Promise<void> {
  const live = machine.running();
  const { home } = machine.context;
  const ramPath = join(memoryDirectory(machine.file.id), "ram");
  await volumesReady(machine, work.signal);
  await checkRoom(machine, ramPath);
  const host = await hostRecord(live, work.signal);
  const agent = await agentIsThere(live);
  const { id, directory } = await beginState(home);
  try {
    machine.setState("suspending");
    const intent = { phase: "saving", state: id, digest: null, agent } as const;
    const none = { populatedMiB: 0, storedBytes: 0, pauseMs: 0 };
    await machine.save({ suspended: { ...intent, at: new Date().toISOString(), ...none } });
    await reach("intent");
    work.report({ phase: `suspending ${machine.name}` });
    await flush(live, work.signal);
    const stopped = performance.now();
    const at = new Date().toISOString();
    await live.qmp.execute("stop", {}, { timeoutMs: stopLimitMs, signal: work.signal });
    await reach("stopped");
    const device = await saveDevices(live, directory, work.signal);
    const pauseMs = Math.round(performance.now() - stopped);
    await reach("device");
    const memory = await packMemory({
      ramPath,
      memoryBytes: machine.file.memoryMiB * mebibyte,
      directory,
      signal: work.signal,
      onProgress: (done, total) =>
        work.report({ phase: `storing the memory of ${machine.name}`, done, total, unit: "bytes" }),
    });
    await reach("packed");
    const { suspended: _, ...file } = machine.file;
    const saved = JSON.parse(JSON.stringify(file)) as StateManifest["machine"] & JsonValue;
    const manifest: StateManifest = {
      version: 1,
      id,
      kind: "suspend",
      createdAt: at,
      machine: saved,
      host,
      memory,
      device,
      pauseMs,
    };
    const digest = await writeManifest(directory, manifest);
    work.signal.throwIfAborted();
    if (!live.alive) throw failMachine("QEMU_GONE", { name: machine.name, reason: "QEMU ended" });
    await commitState(home, id);
    await reach("committed");
    const durable = { at, pauseMs: Math.round(performance.now() - stopped), ...sizes(memory, device) };
    await machine.save({ suspended: { ...intent, phase: "saved", digest, ...durable } });
  } catch (error) {
    throw await takeBack(machine, live, id, agent, error);
  }
  await reach("saved");
  await endQemu(live);
  machine.setState("suspended");
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

async function checkRoom(machine: Machine, ramPath: string): Promise<void> {
  const { home } = machine.context;
  const needed = (await stat(ramPath)).blocks * 512 * leastShare + spareBytes;
  const { bavail, bsize } = await statfs(statesDirectory(home)).catch(() => statfs(home));
  if (bavail * bsize >= needed) return;
  const [free, what] = [formatSize(bavail * bsize), formatSize(Math.round(needed))];
  throw fail("STATE_DISK_SHORT", { machine: machine.name, needed: what, free, path: statesDirectory(home) });
}

async function agentIsThere({ qmp }: LiveMachine): Promise<boolean> {
  const chardevs = await qmp.execute("query-chardev");
  return chardevs.some(({ label, "frontend-open": open }) => label === "agent" && open);
}

/** What is flushed while the guest runs is not waited for while it stands still. */
async function flush({ machine, qmp }: LiveMachine, signal: AbortSignal): Promise<void> {
  const { disk, dataDisks, volumes } = machine.file;
  const nodes = [
    ...(disk === null ? [] : ["root"]),
    ...dataDisks.map((_, index) => `data-${index}`),
    ...volumes.filter(({ readOnly }) => !readOnly).map(({ id }) => id),
  ];
  for (const node of nodes) await qmp.hmp(`qemu-io ${node} flush`, { timeoutMs: stopLimitMs, signal });
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
  if (!live.alive) {
    await live.gone;
    return failMachine("QEMU_GONE", { name, reason: machine.reason ?? "QEMU ended" }, { cause: error });
  }
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

/** Has a guest go on that was stopped for its state to be saved. */
export async function goOn(live: LiveMachine, agent: boolean): Promise<void> {
  const { status } = await live.qmp.execute("query-migrate");
  if (status !== undefined && !["completed", "failed", "cancelled", "none"].includes(status)) {
    await live.qmp.execute("migrate_cancel");
  }
  await live.qmp.execute("cont");
  live.machine.setState("running");
  if (agent) await setClock(live, AbortSignal.timeout(stopLimitMs));
}
