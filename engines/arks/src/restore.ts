import { randomUUID } from "node:crypto";
import type { MachineSnapshotRestore, MachineSnapshotRestored } from "@skep/api/schemas";
import { exists } from "@skep/base";
import {
  abandonSwitch,
  commitSwitch,
  endQemu,
  finishReverts,
  type Machine,
  type MachineFile,
  prepareSwitch,
  startMachine,
  sweepUnusedLayers,
} from "@skep/machines";
import { resumeMachine } from "./resume.ts";
import { type SnapshotTools, takeSnapshot } from "./snapshot.ts";
import { checkLayers, checkMemory, checkOwner, checkVolumes } from "./snapshot-check.ts";
import { failSnapshot } from "./snapshot-errors.ts";
import { readSnapshot, type SnapshotFile, type SnapshotMemory, snapshotPaths } from "./snapshot-file.ts";
import { freeName } from "./snapshot-names.ts";
import { removeSnapshot } from "./snapshot-remove.ts";
import { releaseState } from "./snapshot-uses.ts";
import { namesOf } from "./snapshot-volumes.ts";

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
  await checkVolumes(machine, snapshot);
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
  try {
    await commitSwitch(machine, { ...changeOf(snapshot, memory), ...volumesOf(machine, snapshot) });
  } catch (error) {
    await abandonSwitch(machine);
    if (kept !== null) work.note(`${machine.name} is kept as it was in snapshot ${kept}`);
    throw error;
  } finally {
    machine.setState(machine.restState);
  }
  context.ssh.drop(machine.name);
  await reach("switched");
  if (before !== null) await releaseState(machine, before.state);
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
  // From here on no cancelling: who starts it waits for this, too.
  await finishReverts(machine);
  await reach("reverted");
  return { kept, how: await goOn(machine, snapshot, { ran, tools }) };
}

async function goOn(
  machine: Machine,
  snapshot: SnapshotFile,
  { ran, tools }: { ran: boolean; tools: SnapshotTools },
): Promise<Restored["how"]> {
  const { suspended } = machine.file;
  if (suspended !== null) {
    if (snapshot.state === "suspended") return "suspended";
    await resumeMachine(machine, suspended, tools);
    return "resumed";
  }
  if (!ran) return "stopped";
  await startMachine(machine, tools.work);
  return "booted";
}

/** What of its file is as it was; its name, ports, user and what the host does with it stay. */
function changeOf(snapshot: SnapshotFile, memory: SnapshotMemory | null): Partial<MachineFile> {
  const { id: _, ...settings } = snapshot.machine;
  return {
    ...settings,
    snapshot: snapshot.name,
    setBackAt: new Date().toISOString(),
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

/** How they were attached, and what they are set back to before anything runs on them. A volume keeps its size. */
function volumesOf({ file }: Machine, { volumes = [] }: SnapshotFile): Partial<MachineFile> {
  if (volumes.length === 0) return { reverting: undefined };
  const sizes = new Map(file.volumes.map(({ id, sizeBytes }) => [id, sizeBytes]));
  return {
    volumes: volumes.map(({ snapshot: _, ...volume }) => {
      return { ...volume, sizeBytes: sizes.get(volume.id) ?? volume.sizeBytes, detaching: false };
    }),
    reverting: namesOf(volumes),
  };
}

function checkRestorable(machine: Machine, snapshot: SnapshotFile): void {
  const { file, state, reason } = machine;
  const { name, volumes = [] } = snapshot;
  const refuse = (why: string, hint: string) =>
    failSnapshot("RESTORE_REFUSED", { machine: machine.name, snapshot: name, why, hint });
  checkOwner(machine, snapshot);
  const then = new Set(volumes.map(({ id }) => id));
  const now = new Set(file.volumes.map(({ id }) => id));
  for (const id of now) {
    if (!then.has(id)) throw refuse(`it got volume ${id} since`, `detach it first: skep vol detach ${id}`);
  }
  for (const id of then) {
    const hint = `attach it again: skep vol attach ${id} ${machine.name}`;
    if (!now.has(id)) throw refuse(`it had volume ${id} then, and has it no more`, hint);
  }
  if (machine.live === undefined && !machine.atRest) {
    const why = `it is ${state}${reason === null ? "" : ` (${reason})`}`;
    throw refuse(why, `see: skep status ${machine.name}`);
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
