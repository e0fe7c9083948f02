import { copyFile, rm } from "node:fs/promises";
import { exists, isErrno, SkepError, syncDirectory, syncFile, Undo, type Work } from "@skep/base";
import { finishReverts, type Machine, type MachineFile } from "@skep/machines";
import type { FrozenMachines } from "./frozen.ts";
import { failSnapshot } from "./snapshot-errors.ts";
import {
  ensureSnapshots,
  type SnapshotFile,
  type SnapshotMachine,
  snapshotPaths,
  writeSnapshot,
} from "./snapshot-file.ts";
import { type Taken, takeDisks, takeResting, takeWithMemory } from "./snapshot-take.ts";
import { releaseState } from "./snapshot-uses.ts";
import { settleVolumes, VolumeInstant } from "./snapshot-volumes.ts";
import type { Reach } from "./standstill.ts";

/** What a snapshot is taken with. */
export interface SnapshotTools {
  frozen: FrozenMachines;
  work: Work;
  reach: Reach;
}

/**
 * Keeps a machine as it stands, within a turn of it: one that runs goes on after a short pause. The snapshot's
 * record is written last; what fails before leaves the machine as it was, on one more layer at most.
 */
export async function takeSnapshot(
  machine: Machine,
  { name, memory }: { name: string; memory: boolean },
  tools: SnapshotTools,
): Promise<SnapshotFile> {
  const { work, reach } = tools;
  const { directory } = machine.paths;
  const state = checkTakeable(machine, memory);
  const paths = snapshotPaths(directory, name);
  if (await exists(paths.file))
    throw failSnapshot("SNAPSHOT_EXISTS", { machine: machine.name, snapshot: name });
  await ensureSnapshots(directory);
  work.report({ phase: `taking snapshot ${name} of ${machine.name}` });
  const createdAt = new Date().toISOString();
  const parent = machine.file.snapshot ?? null;
  await using undo = new Undo();
  const files = [
    { from: machine.paths.efiVars, to: paths.efiVars },
    { from: machine.paths.knownHosts, to: paths.knownHosts },
  ];
  undo.push(() => Promise.all(files.map(({ to }) => rm(to, { force: true }))));
  if (machine.live === undefined) await finishReverts(machine, work.signal);
  await settleVolumes(machine);
  const instant = await VolumeInstant.plan(machine, name, work.signal);
  undo.push(() => instant.undo());
  const keepRest = async () => {
    await instant.mark(work.signal);
    await reach("volumes-marked");
    for (const { from, to } of files) await copyIfThere(from, to);
  };
  const taken = await take(machine, state, memory, tools, keepRest).catch((error: unknown) => {
    throw readable(machine, error);
  });
  for (const { to } of files) if (await exists(to)) await syncFile(to);
  await syncDirectory(paths.directory);
  if (taken.memory !== null) {
    const { state: id } = taken.memory;
    undo.push(() => releaseState(machine, id));
  }
  await instant.complete(work.signal);
  await reach("stored");
  work.signal.throwIfAborted();
  const snapshot: SnapshotFile = {
    version: 1,
    name,
    createdAt,
    state,
    machine: settingsOf(machine.file, taken),
    ...(instant.volumes.length === 0 ? {} : { volumes: [...instant.volumes] }),
    memory: taken.memory,
    fileSystemsFrozen: taken.fileSystemsFrozen,
    pauseMs: taken.pauseMs,
    parent,
  };
  await writeSnapshot(directory, snapshot);
  undo.keep();
  await reach("recorded");
  await instant.keep();
  await machine.save({ snapshot: name });
  return snapshot;
}

async function take(
  machine: Machine,
  state: SnapshotFile["state"],
  memory: boolean,
  tools: SnapshotTools,
  keepRest: () => Promise<void>,
): Promise<Taken> {
  if (state !== "running") {
    await keepRest();
    return await takeResting(machine, memory);
  }
  return await (memory ? takeWithMemory : takeDisks)(machine.running(), tools, keepRest);
}

/** What it is, where that can be kept. SNAPSHOT_REFUSED. */
function checkTakeable(machine: Machine, memory: boolean): SnapshotFile["state"] {
  const { name, state, reason, file } = machine;
  const refuse = (why: string, hint: string) =>
    failSnapshot("SNAPSHOT_REFUSED", { machine: name, why, hint });
  const going = file.volumes.find(({ detaching }) => detaching);
  if (going !== undefined) {
    const hint = `wait until the guest has, or: skep vol detach ${going.id} --force`;
    throw refuse(`its guest is to give up volume ${going.id}`, hint);
  }
  const hasDisk =
    file.disk !== null || file.dataDisks.length > 0 || file.volumes.some(({ role }) => role !== "efi");
  if (state === "stopped") {
    if (hasDisk) return state;
    throw refuse("it has no disk, and does not run", `start it first: skep start ${name}`);
  }
  if (state === "suspended") return state;
  if (state !== "running" || machine.live === undefined) {
    throw refuse(`it is ${state}${reason === null ? "" : ` (${reason})`}`, `see: skep status ${name}`);
  }
  if (memory && process.platform !== "linux") {
    throw refuse("its memory is in no file on this system", "keep its disks alone: --no-memory");
  }
  if (!memory && !hasDisk) {
    throw refuse("it has no disk", "leave --no-memory out");
  }
  return state;
}

function settingsOf(file: MachineFile, { layers }: Taken): SnapshotMachine {
  const { id, cpus, memoryMiB, firmware, machineType, kernelArguments, cdrom, disk, dataDisks } = file;
  return {
    id,
    cpus,
    memoryMiB,
    firmware,
    machineType,
    kernelArguments,
    cdrom,
    disk: disk === null ? null : { sizeBytes: disk.sizeBytes, base: layers.disk },
    dataDisks: dataDisks.map(({ sizeBytes }, index) => ({
      sizeBytes,
      base: layers.dataDisks[index] ?? null,
    })),
  };
}

async function copyIfThere(from: string, to: string): Promise<void> {
  try {
    await copyFile(from, to);
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
}

/** QEMU's own words, and the system's, in an error that says what became of the machine. */
function readable(machine: Machine, error: unknown): unknown {
  if (error instanceof SkepError || (error as Error).name === "AbortError") return error;
  const full = isErrno(error, "ENOSPC");
  const why = full ? `no space is left in ${machine.context.home}, or in /dev/shm` : (error as Error).message;
  return failSnapshot("SNAPSHOT_FAILED", { machine: machine.name, why }, { cause: error });
}
