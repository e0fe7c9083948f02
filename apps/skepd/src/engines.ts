import { DirectoryMachines, OneImage } from "@skep/control/testing";
import type { DaemonOptions } from "./daemon.ts";

/** Opens the rooms for a home. */
export const openEngines: DaemonOptions["openEngines"] = async ({ home }) => {
  const machines = new DirectoryMachines(home);
  return {
    machines,
    images: new OneImage(),
    recover: machines.recover,
    autostart: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
};
