import { Undo } from "@skep/base";
import {
  abandonDiskFreeze,
  commitDiskFreeze,
  type DiskLayers,
  freezeDisksAtRest,
  type LiveMachine,
  type Machine,
  prepareDiskFreeze,
  volumesReady,
} from "@skep/machines";
import { freezeMachine } from "./freeze.ts";
import { announceHold, forgetHold, freezeFileSystems, thawFileSystems } from "./hold.ts";
import { packFrozen } from "./pack-frozen.ts";
import type { SnapshotTools } from "./snapshot.ts";
import type { SnapshotMemory } from "./snapshot-file.ts";
import { agentIsThere, flush, whileStill } from "./standstill.ts";
import { sizes } from "./suspend.ts";

/** What was kept of a machine; the rest of its snapshot's record is its own settings. */
export interface Taken {
  layers: DiskLayers;
  memory: SnapshotMemory | null;
  fileSystemsFrozen: boolean | null;
  pauseMs: number | null;
}

/** Of a machine without QEMU: its disks become layers, and what it sleeps on is named once more. */
export async function takeResting(machine: Machine, memory: boolean): Promise<Taken> {
  const { suspended } = machine.file;
  const layers = await freezeDisksAtRest(machine);
  const named = { fileSystemsFrozen: null, pauseMs: null };
  if (!memory || suspended === null || suspended.digest === null) return { layers, memory: null, ...named };
  const { state, digest, populatedMiB, storedBytes, agent } = suspended;
  return { layers, memory: { state, digest, populatedMiB, storedBytes, agent }, ...named };
}

/** Of one that runs: disks and memory at one instant. The memory is stored while the guest runs on. */
export async function takeWithMemory(
  live: LiveMachine,
  { work, reach, frozen }: SnapshotTools,
  keepRest: () => Promise<void>,
): Promise<Taken> {
  const { machine } = live;
  const agent = await agentIsThere(live);
  const freezing = await freezeMachine(live, {
    frozen,
    work,
    disks: true,
    reach: async (point) => {
      if (point === "freeze-stopped") await keepRest();
      await reach(point);
    },
  });
  await using kept = freezing.frozen;
  const { manifest, digest } = await packFrozen(kept, { home: machine.context.home, kind: "snapshot", work });
  const stored = sizes(manifest.memory, manifest.device);
  return {
    layers: freezing.layers ?? { disk: null, dataDisks: [] },
    memory: { state: manifest.id, digest, agent, ...stored },
    fileSystemsFrozen: null,
    pauseMs: freezing.pauseMs,
  };
}

/** Of one that runs: its disks alone, with its file systems held still by the guest's agent where that can. */
export async function takeDisks(
  live: LiveMachine,
  { work, reach }: SnapshotTools,
  keepRest: () => Promise<void>,
): Promise<Taken> {
  const { machine } = live;
  const { signal } = work;
  await volumesReady(machine, signal);
  const agent = await agentIsThere(live);
  await using undo = new Undo();
  undo.push(() => abandonDiskFreeze(live));
  const freeze = await prepareDiskFreeze(live, signal);
  undo.push(() => (machine.state === "paused" ? undefined : forgetHold(machine)));
  await announceHold(machine, agent);
  if (agent) undo.push(() => thawFileSystems(live));
  const fileSystemsFrozen = agent && (await freezeFileSystems(live, signal));
  await reach("disks-held");
  await flush(live, signal);
  const { pauseMs } = await whileStill(live, false, signal, async () => {
    await reach("disks-stopped");
    await keepRest();
    signal.throwIfAborted();
    await commitDiskFreeze(live, freeze);
    await reach("disks-layered");
    return {};
  });
  await reach("disks-running");
  undo.keep();
  if (agent && !(await thawFileSystems(live))) {
    work.note(
      `the agent of ${machine.name} does not say that its file systems go on: see skep exec ${machine.name}`,
    );
  }
  await forgetHold(machine);
  return { layers: freeze.layers, memory: null, fileSystemsFrozen, pauseMs };
}
