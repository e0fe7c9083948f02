import {
  layersOfSnapshots,
  layersOfTemplates,
  openStates,
  removeState,
  type States,
  type StatesOptions,
  statesOfSnapshots,
  volumesOfSnapshots,
} from "@skep/arks";
import { ImageStore } from "@skep/images";
import { Machines } from "@skep/machines";
import type { DaemonOptions } from "./daemon.ts";
import { StorageService } from "./storage.ts";
import { Storaged } from "./storaged.ts";
import { templateSettings } from "./templates.ts";
import { VolumeService } from "./volumes.ts";

/** Opens the rooms for a home. */
export const openEngines: DaemonOptions["openEngines"] = async ({ home, runtime, log, onEvent }) => {
  const images = new ImageStore({ home });
  const storaged = new Storaged(home, log);
  const storage = new StorageService(home, storaged);
  let known: Machines | undefined;
  const volumes = new VolumeService({ home, storaged, log, machineOf: (id) => known?.machineOf(id) });
  const discardState = (id: string) => removeState(home, id);
  const basesElsewhere = async () => [...(await layersOfSnapshots(home)), ...(await layersOfTemplates(home))];
  const statesElsewhere = (name: string) => statesOfSnapshots(home, name);
  let stored: States | undefined;
  const machines = await Machines.open({
    ...{ home, runtime, images, volumes, log },
    onEvent(event) {
      onEvent(event);
      stored?.noticed(event);
    },
    ...{ discardState, basesElsewhere, statesElsewhere },
    volumeSnapshotsElsewhere: (name) => volumesOfSnapshots(home, name),
    frozenUnused: async (id) => await stored?.frozenUnused(id),
    startWarm: async (machine, work) => (await stored?.templates.startWarm(machine, work)) ?? false,
    reclaim: async () => await stored?.reclaim(),
  });
  known = machines;
  const templates = await templateSettings(home);
  const digestOf: StatesOptions["digestOf"] = (name, arch) => images.find(name, arch)?.digest;
  const states = await openStates({ home, machines, log, templates, digestOf });
  stored = states;
  // Verbs on the machines that it is about wait; others need not.
  const recovered = states.recover();
  return {
    machines,
    images,
    storage,
    volumes,
    states,
    async recover(job) {
      await recovered;
      const outcome = await states.recoverJob(job.kind, job.subject, job.request, job.createdAt);
      if (outcome !== undefined) return outcome;
      return job.kind.startsWith("volume.") && job.kind !== "volume.attach" && job.kind !== "volume.detach"
        ? volumes.recover(job)
        : machines.recover(job.kind, job.subject, job.request);
    },
    async autostart() {
      // Machines start, and are started again, also where object storage cannot be.
      await storage.resume().finally(() => machines.autostart());
    },
    async [Symbol.asyncDispose]() {
      await recovered;
      await states[Symbol.asyncDispose]();
      await storage[Symbol.asyncDispose]();
      await machines.close();
    },
  };
};
