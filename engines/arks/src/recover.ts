import { exists } from "@skep/base";
import { endQemu, type Machine, type SuspendedState } from "@skep/machines";
import { recoverHold } from "./hold.ts";
import { readManifest } from "./manifest.ts";
import { clearOutgoing } from "./migration.ts";
import { stateDirectory } from "./paths.ts";
import { giveUp } from "./resume.ts";
import { goOn } from "./standstill.ts";
import { sizes } from "./suspend.ts";

/**
 * Brings in order what an earlier process left half done, within a turn of the machine: it is suspended as a
 * whole, or it was never stopped; one that was held still for a moment goes on.
 */
export async function recoverMachine(machine: Machine): Promise<void> {
  const { suspended, name } = machine.file;
  const { live, context } = machine;
  if (live !== undefined) await clearOutgoing(machine);
  if (suspended === null) return await recoverHold(machine);
  // A QEMU whose monitor does not answer: nothing can be said of its guest.
  if (live === undefined && !machine.atRest) return;
  const runs = live !== undefined && (await live.qmp.execute("query-status")).running;
  const ended = { saving: finishSaving, saved: finishSaved, resuming: finishResuming }[suspended.phase];
  await ended(machine, suspended, runs);
  context.log.info(
    { machine: name, phase: suspended.phase, state: machine.state },
    "suspend brought in order",
  );
}

async function finishSaving(machine: Machine, suspended: SuspendedState, runs: boolean): Promise<void> {
  const { live, context } = machine;
  const directory = stateDirectory(context.home, suspended.state);
  const whole = (await exists(directory)) ? await readManifest(directory).catch(() => undefined) : undefined;
  // A guest that runs was told so by somebody else, and has changed its disk.
  if (whole === undefined || runs) {
    await giveUp(machine, suspended.state);
    if (live === undefined) return;
    if (runs) machine.setState("running");
    else await goOn(live, suspended.agent);
    return;
  }
  const { manifest, digest } = whole;
  const stored = sizes(manifest.memory, manifest.device);
  const { createdAt: at, pauseMs } = manifest;
  await machine.save({ suspended: { ...suspended, phase: "saved", digest, at, pauseMs, ...stored } });
  if (live !== undefined) await endQemu(live);
  machine.setState("suspended");
}

async function finishSaved(machine: Machine, { state }: SuspendedState, runs: boolean): Promise<void> {
  if (machine.live === undefined) return;
  if (runs) {
    await giveUp(machine, state);
    machine.setState("running");
    return;
  }
  await endQemu(machine.live);
  machine.setState("suspended");
}

async function finishResuming(machine: Machine, suspended: SuspendedState, runs: boolean): Promise<void> {
  const { live } = machine;
  if (live === undefined) {
    await giveUp(machine, suspended.state);
    machine.setState("stopped", "it ended while it was resumed, so that its memory was given up");
    return;
  }
  if (runs) machine.setState("running");
  else await goOn(live, suspended.agent);
  await giveUp(machine, suspended.state);
}
