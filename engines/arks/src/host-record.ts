import { processArguments } from "@skep/base";
import { commandLine, type LiveMachine, type Machine } from "@skep/machines";
import { devicesOf, differences } from "./compat.ts";
import { fail } from "./errors.ts";
import type { HostRecord, StateManifest } from "./types.ts";

/** What the running QEMU of a machine is, and what it shows the guest. */
export async function hostRecord(live: LiveMachine, signal: AbortSignal): Promise<HostRecord> {
  const { machine } = live;
  const argv = await argumentsOf(live);
  const cpuModel = argv[argv.indexOf("-cpu") + 1] ?? "";
  const { major, minor, micro } = live.qmp.greeting.version.qemu;
  return {
    qemu: `${major}.${minor}.${micro}`,
    machineType: (argv[argv.indexOf("-machine") + 1] ?? "").split(",", 1)[0] ?? "",
    arch: machine.file.arch,
    accelerator: machine.run?.accelerator ?? "",
    cpuModel,
    cpuFeatures: await cpuFeatures(live, cpuModel, signal),
    devices: devicesOf(argv),
  };
}

/**
 * As QEMU was started, which may be by an older skep. But a volume that was plugged in since, or taken out,
 * is as the machine's file has it now: the next start gives it the same place.
 */
async function argumentsOf(live: LiveMachine): Promise<string[]> {
  const { machine } = live;
  const accelerator = (machine.run?.accelerator ?? "tcg") as "tcg" | "kvm" | "hvf";
  const qemu = await machine.context.programs.get(machine.file.arch);
  const now = await commandLine(machine, qemu, { accelerator });
  const started = processArguments(live.process.pid) ?? now;
  return [...volumeDevices(started).without, ...volumeDevices(now).only];
}

function volumeDevices(argv: readonly string[]): { without: string[]; only: string[] } {
  const isVolume = (index: number) =>
    argv[index] === "-device" && /,id=disk-vol-/.test(argv[index + 1] ?? "");
  const only = argv.filter((_, index) => isVolume(index) || isVolume(index - 1));
  const without = argv.filter((_, index) => !isVolume(index) && !isVolume(index - 1));
  return { without, only };
}

async function cpuFeatures({ qmp }: LiveMachine, cpuModel: string, signal: AbortSignal): Promise<string[]> {
  const name = cpuModel.split(",", 1)[0] as string;
  const { model } = await qmp.execute(
    "query-cpu-model-expansion",
    { type: "full", model: { name } },
    { signal },
  );
  return Object.entries(model.props ?? {})
    .filter(([, value]) => value !== false)
    .map(([feature, value]) => (value === true ? feature : `${feature}=${String(value)}`))
    .sort();
}

/** STATE_MISFIT where `here` is another host than the state was saved on, as far as the guest can tell. */
export function checkFits(machine: Machine, { host }: StateManifest, here: Partial<HostRecord>): void {
  const [difference, ...more] = differences(host, { ...host, ...here });
  if (difference === undefined) return;
  throw fail("STATE_MISFIT", { machine: machine.name, difference: [difference, ...more].join("; ") });
}
