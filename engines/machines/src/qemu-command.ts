import { bootId } from "@skep/base";
import { type AcceleratorVerdict, knownAccelerator, nativeArch } from "./accelerator.ts";
import { commandLine } from "./launch.ts";
import type { Machine } from "./machine.ts";
import { homePaths, memoryDirectory } from "./paths.ts";
import { prepareFirmware } from "./prepare.ts";

/** The whole command line, as it is or would be, and the directories that a start makes for it. */
export async function qemuCommand(machine: Machine): Promise<{ command: string[]; directories: string[] }> {
  const qemu = await machine.context.programs.get(machine.file.arch);
  const own = process.platform === "linux" && (machine.run?.memory.frozen ?? null) === null;
  const memory = own ? [memoryDirectory(machine.file.id)] : [];
  await prepareFirmware(machine);
  return {
    command: await commandLine(machine, qemu, await verdictFor(machine)),
    directories: [machine.runtime.qemu, ...memory],
  };
}

async function verdictFor(machine: Machine): Promise<AcceleratorVerdict> {
  const { home, programs } = machine.context;
  const qemu = await programs.get(machine.file.arch);
  const native = machine.file.arch === nativeArch;
  const known = native ? await knownAccelerator(homePaths(home).accelerator, qemu) : undefined;
  const accelerator = native && process.platform === "darwin" ? "hvf" : "tcg";
  return (
    known ?? {
      version: 1,
      bootId: bootId(),
      qemuVersion: qemu.version,
      accelerator,
      detail: "not probed yet",
    }
  );
}
