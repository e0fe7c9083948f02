import { readdirSync } from "node:fs";
import { readdir } from "node:fs/promises";
import type { Context } from "./context.ts";
import { volumesOfDamaged } from "./damaged.ts";
import { Machine } from "./machine.ts";
import { readMachineFile, readRunRecord } from "./machine-file.ts";
import { homePaths, machinePaths } from "./paths.ts";
import { readRestarts } from "./restart-record.ts";

/** Reads the files of all machines; those that cannot be read are damaged. */
export async function loadMachines(context: Context): Promise<void> {
  const { home, machines, damaged, log } = context;
  const entries = await readdir(homePaths(home).machines, { withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isDirectory() || entry.name.startsWith(".")) continue;
    const paths = machinePaths(home, entry.name);
    try {
      const file = await readMachineFile(paths.file, entry.name);
      const [run, restarts] = [await readRunRecord(paths.run), await readRestarts(paths.restarts)];
      machines.set(entry.name, new Machine(context, file, run, restarts));
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      const volumes = volumesOfDamaged(home, entry.name);
      damaged.set(entry.name, { name: entry.name, reason, volumes });
      log.error({ machine: entry.name, err: error }, "machine is damaged");
    }
  }
}

/** A directory removed by hand takes a stopped machine with it; a running one shows it as its reason. */
export function forgetVanished(context: Context): void {
  const { home, machines } = context;
  const present = new Set(readdirSync(homePaths(home).machines));
  for (const [name, machine] of machines) {
    if (present.has(name)) continue;
    if (machine.live !== undefined) {
      machine.reason = `its directory ${machine.paths.directory} was removed`;
    } else if (machine.atRest) {
      machines.delete(name);
      context.emit({
        type: "machine.removed",
        subject: name,
        data: { id: machine.file.id, byHand: true },
      });
    }
  }
  for (const name of context.damaged.keys()) if (!present.has(name)) context.damaged.delete(name);
}
