import { quietWork, Undo } from "@skep/base";
import { plug } from "./attach.ts";
import { finishDetach } from "./detach.ts";
import type { Machine } from "./machine.ts";
import { deleteNode, hasDevice } from "./plug.ts";
import { dropVolume, releaseVolumes, serveVolume } from "./volumes.ts";

/**
 * Brings a machine's volumes in order after skepd was away: what runs is served, and has exactly what its
 * file says; what has ended gives back what it had. Within a turn of the machine.
 */
export async function settleVolumes(machine: Machine): Promise<void> {
  const { live, context, name } = machine;
  if (live === undefined) {
    if (machine.state === "stopped") await releaseVolumes(machine);
    return;
  }
  for (const volume of machine.file.volumes) {
    await serveVolume(machine, volume);
    if (volume.role !== "data" || (await hasDevice(live, volume.id))) continue;
    if (volume.detaching) {
      await finishDetach(live, volume.id);
      continue;
    }
    await using undo = new Undo();
    undo.push(() => dropVolume(machine, volume.id));
    await deleteNode(live, volume.id); // of an attach that came no further
    await plug(live, volume, quietWork(), undo);
    undo.keep();
    context.log.info({ machine: name, volume: volume.id }, "attached what was half attached");
  }
}
