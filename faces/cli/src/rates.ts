import type { MachineStats } from "@skep/api";

/** What a machine used between two samples, a second. */
export interface Usage {
  name: string;
  /** 100 is one core; null where there was no sample before. */
  cpuPercent: number | null;
  memoryResidentBytes: number;
  memoryMiB: number;
  diskAllocatedBytes: number;
  diskReadRate: number | null;
  diskWrittenRate: number | null;
  networkReceivedRate: number | null;
  networkSentRate: number | null;
}

/** Compares counters by machine. A counter that went back (the machine was started anew) gives no rate. */
export function usageBetween(before: readonly MachineStats[], after: readonly MachineStats[]): Usage[] {
  return after.map((now) => {
    const then = before.find((sample) => sample.name === now.name);
    const seconds = then === undefined ? 0 : (Date.parse(now.time) - Date.parse(then.time)) / 1000;
    const rate = (from: number | null | undefined, to: number | null): number | null =>
      seconds <= 0 || from === null || from === undefined || to === null || to < from
        ? null
        : (to - from) / seconds;
    const cpu = rate(then?.cpuSeconds, now.cpuSeconds);
    return {
      name: now.name,
      cpuPercent: cpu === null ? null : cpu * 100,
      memoryResidentBytes: now.memoryResidentBytes,
      memoryMiB: now.memoryMiB,
      diskAllocatedBytes: now.diskAllocatedBytes,
      diskReadRate: rate(then?.diskReadBytes, now.diskReadBytes),
      diskWrittenRate: rate(then?.diskWrittenBytes, now.diskWrittenBytes),
      networkReceivedRate: rate(then?.networkReceivedBytes, now.networkReceivedBytes),
      networkSentRate: rate(then?.networkSentBytes, now.networkSentBytes),
    };
  });
}
