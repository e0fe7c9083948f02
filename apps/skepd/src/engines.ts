import { ImageStore } from "@skep/images";
import { Machines } from "@skep/machines";
import type { DaemonOptions } from "./daemon.ts";
import { StorageService } from "./storage.ts";
import { Storaged } from "./storaged.ts";
import { VolumeService } from "./volumes.ts";

/** Opens the rooms for a home. */
export const openEngines: DaemonOptions["openEngines"] = async ({ home, runtime, log, onEvent }) => {
  const images = new ImageStore({ home });
  const storaged = new Storaged(home, log);
  const storage = new StorageService(home, storaged);
  let known: Machines | undefined;
  const volumes = new VolumeService({ home, storaged, log, machineOf: (id) => known?.machineOf(id) });
  const machines = await Machines.open({ home, runtime, images, volumes, log, onEvent });
  known = machines;
  return {
    machines,
    images,
    storage,
    volumes,
    recover: (job) =>
      job.kind.startsWith("volume.") && job.kind !== "volume.attach" && job.kind !== "volume.detach"
        ? volumes.recover(job)
        : machines.recover(job.kind, job.subject, job.request),
    async autostart() {
      await storage.resume();
      await machines.autostart();
    },
    async [Symbol.asyncDispose]() {
      await storage[Symbol.asyncDispose]();
      await machines.close();
    },
  };
};
