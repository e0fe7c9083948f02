import { bootId } from "@skep/base";
import { clearRuntime, letFrozenGo } from "./clear-runtime.ts";
import type { Context } from "./context.ts";
import { settleDiskFreeze } from "./live-freeze.ts";
import type { Machine } from "./machine.ts";
import { findProcess, findProcesses, isAlive } from "./process.ts";
import { adoptMachine, monitorSilent } from "./start.ts";
import { finishSwitch } from "./switch-disks.ts";
import { abandonWarm } from "./warm-abandon.ts";

/** Takes over every machine that runs, as after a restart of skepd; clears up after those that ended. */
export async function adoptRunning({ machines, log }: Context): Promise<void> {
  const all = [...machines.values()];
  const found = findProcesses(all.map(({ file }) => file));
  await Promise.all(
    all.map(async (machine) => {
      if (machine.file.warming !== undefined) return await takeBack(machine);
      const process = found.get(machine.file.id) ?? findProcess(machine.file, machine.runtime.pid);
      if (process === undefined) return await noteEnd(machine);
      try {
        await adoptMachine(machine, process);
        log.info({ machine: machine.name, pid: process.pid }, "found running");
      } catch (error) {
        if (!isAlive(process)) return await noteEnd(machine);
        machine.setState("running", monitorSilent);
        log.error({ machine: machine.name, err: error }, "cannot adopt");
      }
    }),
  );
}

/** Its guest may not know yet who it is. Where that cannot be done now, its next start does it. */
async function takeBack(machine: Machine): Promise<void> {
  await abandonWarm(machine).catch((error: unknown) => {
    machine.context.log.error({ machine: machine.name, err: error }, "cannot take its first start back");
  });
}

/** Its QEMU is gone: say why where it ended while nobody looked. */
async function noteEnd(machine: Machine): Promise<void> {
  await clearRuntime(machine);
  const settled = async () => {
    await settleDiskFreeze(machine);
    await finishSwitch(machine);
  };
  await settled().catch((error: unknown) =>
    machine.context.log.error({ machine: machine.name, err: error }, "cannot bring its disks in order"),
  );
  await letFrozenGo(machine);
  const { run } = machine;
  if (run === undefined || run.stoppedAt !== null) return;
  const rebooted = run.bootId !== bootId();
  machine.reason = rebooted ? "the host was restarted" : "ended while skepd was not running";
}
