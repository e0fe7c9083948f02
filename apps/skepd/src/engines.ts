import { ImageStore } from "@skep/images";
import { Machines } from "@skep/machines";
import type { DaemonOptions } from "./daemon.ts";

/** Opens the rooms for a home. */
export const openEngines: DaemonOptions["openEngines"] = async ({ home, runtime, log, onEvent }) => {
  const images = new ImageStore({ home });
  const machines = await Machines.open({ home, runtime, images, log, onEvent });
  return {
    machines,
    images,
    recover: ({ kind, subject, request }) => machines.recover(kind, subject, request),
    autostart: () => machines.autostart(),
    [Symbol.asyncDispose]: () => machines.close(),
  };
};
