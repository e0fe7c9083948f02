import { clearRuntime, letFrozenGo } from "./clear-runtime.ts";
import { endStray } from "./fork.ts";
import type { Machine } from "./machine.ts";
import { endQemu } from "./start.ts";
import { undoWarm } from "./warm-disk.ts";

/** Takes a first start back that is not finished, with its QEMU; also one that an earlier process has begun. */
export async function abandonWarm(machine: Machine): Promise<void> {
  if (machine.file.warming === undefined) return;
  if (machine.live === undefined) await endStray(machine);
  else await endQemu(machine.live);
  await clearRuntime(machine);
  await letFrozenGo(machine);
  await undoWarm(machine);
}
