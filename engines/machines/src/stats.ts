import { constants } from "node:fs";
import { open, readFile, rm } from "node:fs/promises";
import type { MachineStats } from "@skep/api/schemas";
import { allocatedBytes } from "./disk.ts";
import { fail } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { processorSeconds } from "./processor-time.ts";

/** One sample of what a running machine uses; rates come from two. */
export async function machineStats(machine: Machine): Promise<MachineStats> {
  const live = machine.running();
  const [usage, blocks, network, diskAllocatedBytes] = await Promise.all([
    processUsage(live.process.pid),
    live.qmp.execute("query-blockstats", {}, { timeoutMs: 5000 }),
    guestNetwork(machine),
    machine.file.disk === null ? 0 : allocatedBytes(machine.paths.disk),
  ]);
  const sum = (key: "rd_bytes" | "wr_bytes") => blocks.reduce((total, block) => total + block.stats[key], 0);
  return {
    name: machine.name,
    time: new Date().toISOString(),
    ...usage,
    memoryMiB: machine.file.memoryMiB,
    diskReadBytes: sum("rd_bytes"),
    diskWrittenBytes: sum("wr_bytes"),
    diskAllocatedBytes,
    networkReceivedBytes: network?.received ?? null,
    networkSentBytes: network?.sent ?? null,
  };
}

async function processUsage(pid: number): Promise<Pick<MachineStats, "cpuSeconds" | "memoryResidentBytes">> {
  try {
    const [cpuSeconds, status] = await Promise.all([
      processorSeconds(pid),
      readFile(`/proc/${pid}/status`, "utf8"),
    ]);
    const resident = /^VmRSS:\s+(\d+) kB/m.exec(status);
    return { cpuSeconds, memoryResidentBytes: Number(resident?.[1] ?? 0) * 1024 };
  } catch {
    return { cpuSeconds: 0, memoryResidentBytes: 0 }; // no /proc (macOS)
  }
}

interface AgentNetworkInterface {
  name: string;
  statistics?: { "rx-bytes": number; "tx-bytes": number };
}

/** QEMU does not count on a user-mode network, so the guest's own counters are asked for. */
async function guestNetwork(machine: Machine): Promise<{ received: number; sent: number } | undefined> {
  if (!machine.ready) return undefined;
  try {
    const interfaces = await machine
      .running()
      .agent.call<AgentNetworkInterface[]>("guest-network-get-interfaces", {}, { timeoutMs: 2000 });
    const counted = interfaces.filter(({ name, statistics }) => name !== "lo" && statistics !== undefined);
    return {
      received: counted.reduce((sum, { statistics }) => sum + (statistics?.["rx-bytes"] ?? 0), 0),
      sent: counted.reduce((sum, { statistics }) => sum + (statistics?.["tx-bytes"] ?? 0), 0),
    };
  } catch {
    return undefined;
  }
}

const maxPictureBytes = 64 * 1024 ** 2;

/** The display as a PNG. */
export async function screenshot(machine: Machine): Promise<Buffer> {
  const { qmp } = machine.running();
  const { screen } = machine.runtime;
  await rm(screen, { force: true });
  try {
    await qmp.execute("screendump", { filename: screen, format: "png", device: "display" });
    // QEMU owns the directory: follow no link it might have put there.
    const handle = await open(screen, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const { size } = await handle.stat();
      if (size === 0 || size > maxPictureBytes) throw fail("NO_DISPLAY", { name: machine.name });
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } finally {
    await rm(screen, { force: true });
  }
}
