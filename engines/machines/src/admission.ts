import { readFileSync, statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";
import { formatSize } from "@skep/base";
import { fail } from "./errors.ts";
import { memoryDirectory } from "./paths.ts";

/** Left to the host and to QEMU itself beyond the guests' memory. */
const reserveBytes = 256 * 1024 ** 2;

/**
 * Refuses a machine whose memory could not be backed: tmpfs that fills up kills QEMU with SIGBUS,
 * and pages that running guests were promised but have not touched count as taken.
 */
export async function admit(
  name: string,
  memoryMiB: number,
  running: readonly { id: string; memoryMiB: number }[],
): Promise<void> {
  if (process.platform !== "linux") return;
  const needed = memoryMiB * 1024 ** 2;
  const untouched = running.reduce((sum, guest) => sum + untouchedBytes(guest), 0);
  const shared = await statfs("/dev/shm");
  const places = [
    {
      where: "in /dev/shm (enlarge it: mount -o remount,size=… /dev/shm)",
      free: shared.bavail * shared.bsize,
    },
    { where: "of this host", free: availableMemory() - reserveBytes },
  ];
  for (const { where, free } of places) {
    const available = Math.max(0, free - untouched);
    if (needed > available) {
      throw fail("MEMORY_SHORT", {
        name,
        needed: formatSize(needed),
        available: formatSize(available),
        where,
      });
    }
  }
}

function untouchedBytes({ id, memoryMiB }: { id: string; memoryMiB: number }): number {
  const promised = memoryMiB * 1024 ** 2;
  try {
    return Math.max(0, promised - statSync(join(memoryDirectory(id), "ram")).blocks * 512);
  } catch {
    return promised; // just starting
  }
}

/** Linux's own estimate of what can be had without swapping (proc(5), MemAvailable). */
function availableMemory(): number {
  try {
    const match = /^MemAvailable:\s+(\d+) kB/m.exec(readFileSync("/proc/meminfo", "utf8"));
    if (match !== null) return Number(match[1]) * 1024;
  } catch {
    // not Linux
  }
  return freemem();
}
