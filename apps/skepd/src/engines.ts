import { ImageStore } from "@skep/images";
import { Machines } from "@skep/machines";
import type { DaemonOptions } from "./daemon.ts";
import { StorageService } from "./storage.ts";

/** Opens the rooms for a home. */
export const openEngines: DaemonOptions["openEngines"] = async ({ home, runtime, log, onEvent }) => {
  const images = new ImageStore({ home });
  const machines = await Machines.open({ home, runtime, images, log, onEvent });
  const storage = new StorageService(home, log);
  return {
    machines,
    images,
    storage,
    recover: ({ kind, subject, request }) => machines.recover(kind, subject, request),
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
