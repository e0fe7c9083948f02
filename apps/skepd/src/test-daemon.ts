/** skepd as its tests start it: the whole process, on engines whose work can be made to hang. */
import { DirectoryMachines, DirectoryStates, MapStorage, noVolumes, OneImage } from "@skep/control/testing";
import { serve } from "./serve.ts";

await serve(process.argv.slice(2), async ({ home }) => {
  const machines = new DirectoryMachines(home);
  return {
    machines,
    states: new DirectoryStates(machines),
    images: new OneImage(),
    storage: new MapStorage(home),
    volumes: noVolumes,
    recover: machines.recover,
    autostart: async () => {},
    [Symbol.asyncDispose]: async () => {},
  };
});
