import { randomUUID } from "node:crypto";
import { lstat } from "node:fs/promises";
import { join } from "node:path";
import type { MachineSnapshotRestore, MachineSnapshotRestored } from "@skep/api/schemas";
import { exists, SkepError, type Work } from "@skep/base";
import {
  abandonSwitch,
  baseChain,
  commitSwitch,
  endQemu,
  type Machine,
  type MachineFile,
  prepareSwitch,
  startMachine,
  sweepUnusedLayers,
} from "@skep/machines";
import { checkState } from "./check.ts";
import { runAfterResume } from "./hooks.ts";
import { checkFits } from "./host-record.ts";
import { readManifest } from "./manifest.ts";
import { stateDirectory } from "./paths.ts";
import { resumeMachine } from "./resume.ts";
import { type SnapshotTools, takeSnapshot } from "./snapshot.ts";
import { failSnapshot } from "./snapshot-errors.ts";
import {
  layersOf,
  readSnapshot,
  type SnapshotFile,
  type SnapshotMemory,
  snapshotPaths,
} from "./snapshot-file.ts";
import { freeName } from "./snapshot-names.ts";
import { removeSnapshot } from "./snapshot-remove.ts";
import { releaseState } from "./snapshot-uses.ts";

const mebibyte = 1024 ** 2;

export type Restored = Pick<MachineSnapshotRestored, "kept" | "how">;

/**
 * Sets a machine back to a snapshot, within a turn of it. All of the snapshot is looked at first, and nothing
 * of the machine has changed where that finds damage. One write of the machine's file is the point that
 * counts: before it, the machine is what it was; after it, what the snapshot says, asleep or stopped at first.
 */
export async function restoreSnapshot(
  machine: Machine,
  name: string,
  { discard = false, cold = false }: MachineSnapshotRestore,
  tools: SnapshotTools,
): Promise<Restored> {
  const { context, paths } = machine;
  const { work, reach } = tools;
  const snapshot = await readSnapshot(machine.name, paths.directory, name);
  checkRestorable(machine, snapshot);
  await checkLayers(machine, snapshot);
  const memory = cold ? null : snapshot.memory;
  if (memory !== null) await checkMemory(machine, snapshot, memory, work);
  const ran = machine.live !== undefined;
  const kept = discard ? null : await keepPresent(machine, tools);
  const { disk, dataDisks } = snapshot.machine;
  try {
    await prepareSwitch(machine, { disk, dataDisks, copies: await copiesOf(machine, snapshot) }, work.signal);
    await reach("prepared");
    work.signal.throwIfAborted();
  } catch (error) {
    await abandonSwitch(machine);
    if (kept !== null) await removeSnapshot(machine, kept);
    throw error;
  }
  work.report({ phase: `setting ${machine.name} back to ${name}` });
  const before = machine.file.suspended;
  if (machine.live !== undefined) await endQemu(machine.live);
  await reach("ended");
  await commitSwitch(machine, changeOf(snapshot, memory));
  machine.setState(machine.restState);
  context.ssh.drop(machine.name);
  await reach("switched");
  if (before !== null) await releaseState(machine, before.state);
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
  return { kept, how: await goOn(machine, snapshot, { ran, tools }) };
}

async function goOn(
  machine: Machine,
  snapshot: SnapshotFile,
  { ran, tools: { work, reach } }: { ran: boolean; tools: SnapshotTools },
): Promise<Restored["how"]> {
  const { suspended } = machine.file;
  if (suspended !== null) {
    if (snapshot.state === "suspended") return "suspended";
    await resumeMachine(machine, suspended, work, reach);
    if (suspended.agent) await runAfterResume(machine, {}, work);
    return "resumed";
  }
  if (!ran) return "stopped";
  await startMachine(machine, work);
  return "booted";
}

/** What of its file is as it was; its name, ports, user and what the host does with it stay. */
function changeOf(snapshot: SnapshotFile, memory: SnapshotMemory | null): Partial<MachineFile> {
  const { id: _, ...settings } = snapshot.machine;
  return {
    ...settings,
    snapshot: snapshot.name,
    // Another one, so that a guest that looks makes new random numbers.
    generation: randomUUID(),
    suspended:
      memory === null
        ? null
        : {
            phase: "saved",
            state: memory.state,
            digest: memory.digest,
            at: snapshot.createdAt,
            populatedMiB: memory.populatedMiB,
            storedBytes: memory.storedBytes,
            pauseMs: snapshot.pauseMs ?? 0,
            agent: memory.agent,
          },
  };
}

function checkRestorable(machine: Machine, { name, machine: then }: SnapshotFile): void {
  const { file, state, reason } = machine;
  const refuse = (why: string, hint: string) =>
    failSnapshot("RESTORE_REFUSED", { machine: machine.name, snapshot: name, why, hint });
  if (then.id !== file.id) {
    throw failSnapshot("SNAPSHOT_DAMAGED", {
      snapshot: name,
      machine: machine.name,
      why: `it is that of another machine (${then.id})`,
    });
  }
  const [volume] = file.volumes;
  if (volume !== undefined) {
    throw refuse(`it has volume ${volume.id}`, `detach it first: skep vol detach ${volume.id}`);
  }
  if (machine.live === undefined && !machine.atRest) {
    const why = `it is ${state}${reason === null ? "" : ` (${reason})`}`;
    throw refuse(why, `see: skep status ${machine.name}`);
  }
}

/** Every file that its disks would stand on. */
async function checkLayers(machine: Machine, snapshot: SnapshotFile): Promise<void> {
  const { home } = machine.context;
  const refuse = (why: string, cause?: unknown) =>
    failSnapshot("SNAPSHOT_DAMAGED", { snapshot: snapshot.name, machine: machine.name, why }, { cause });
  for (const layer of layersOf(snapshot)) {
    const chain = await baseChain(home, layer).catch((error: Error) => {
      throw refuse(`what ${layer.path} stands on cannot be told: ${error.message}`, error);
    });
    for (const { path } of chain) {
      const found = await lstat(join(home, path)).catch(() => undefined);
      if (found === undefined) throw refuse(`${path} is missing`);
      if (!found.isFile()) throw refuse(`${path} is no regular file`);
    }
  }
}

/** All of its state, as it would be loaded. SNAPSHOT_MEMORY. */
async function checkMemory(
  machine: Machine,
  { name, machine: then }: SnapshotFile,
  { state, digest }: SnapshotMemory,
  work: Work,
): Promise<void> {
  const refuse = (why: string, cause?: unknown) =>
    failSnapshot("SNAPSHOT_MEMORY", { snapshot: name, machine: machine.name, why }, { cause });
  const directory = stateDirectory(machine.context.home, state);
  try {
    const { manifest, digest: found } = await readManifest(directory);
    if (found !== digest) throw refuse(`manifest.json of state ${state} has another digest`);
    if (manifest.machine.id !== then.id || manifest.memory.bytes !== then.memoryMiB * mebibyte) {
      throw refuse(`state ${state} is that of another machine`);
    }
    const { version } = await machine.context.programs.get(machine.file.arch);
    checkFits(machine, manifest, { qemu: version, arch: machine.file.arch });
    const onProgress = (done: number, total: number) =>
      work.report({ phase: `checking the memory of snapshot ${name}`, done, total, unit: "bytes" });
    const [damage] = await checkState(directory, { signal: work.signal, onProgress });
    if (damage !== undefined) throw refuse(`state ${state}: ${damage.object}: ${damage.why}`);
  } catch (error) {
    if (!(error instanceof SkepError) || !error.code.startsWith("STATE_")) throw error;
    throw refuse(error.message, error);
  }
}

async function keepPresent(machine: Machine, tools: SnapshotTools): Promise<string> {
  const name = await freeName(machine, "before-restore");
  const memory = process.platform === "linux" || machine.live === undefined;
  await takeSnapshot(machine, { name, memory }, tools);
  return name;
}

async function copiesOf(machine: Machine, snapshot: SnapshotFile) {
  const { efiVars, knownHosts } = snapshotPaths(machine.paths.directory, snapshot.name);
  const all = [
    { from: efiVars, to: machine.paths.efiVars, owned: true },
    { from: knownHosts, to: machine.paths.knownHosts, owned: false },
  ];
  const there = await Promise.all(all.map(({ from }) => exists(from)));
  return all.filter((_, index) => there[index]);
}
