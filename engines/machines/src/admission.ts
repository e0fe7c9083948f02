import { readFileSync, statSync } from "node:fs";
import { statfs } from "node:fs/promises";
import { freemem } from "node:os";
import { join } from "node:path";
import { formatSize } from "@skep/base";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import type { Machine } from "./machine.ts";
import { memoryDirectory } from "./paths.ts";

/** Left to the host and to QEMU itself beyond the guests' memory. */
const reserveBytes = 256 * 1024 ** 2;

const mebibyte = 1024 ** 2;

/** Bytes that can still be promised to guests. */
export interface Available {
  /** In /dev/shm, where guests have memory of their own. */
  shared: number;
  /** Of this host's memory, wherever it is. */
  host: number;
}

/** What a running guest was promised and has not touched yet. */
export interface Promised {
  bytes: number;
  /** Borrowed memory turns into pages of QEMU's own, not into pages of /dev/shm. */
  borrowed: boolean;
}

/**
 * Refuses a machine whose memory could not be backed: tmpfs that fills up kills QEMU with SIGBUS,
 * and pages that running guests were promised but have not touched count as taken. What it has in its place already
 * is no longer needed. MEMORY_SHORT.
 */
export async function admit(machine: Machine): Promise<void> {
  const { context, name, file } = machine;
  await admitBytes(context, name, file.memoryMiB * mebibyte - allocatedMemory(file.id), machine);
}

/** Refuses a copy of that many bytes of a guest's memory in /dev/shm, for the same reasons. MEMORY_SHORT. */
export async function admitFrozen(context: Context, name: string, bytes: number): Promise<void> {
  await admitBytes(context, name, bytes);
}

async function admitBytes(context: Context, name: string, needed: number, except?: Machine): Promise<void> {
  if (process.platform !== "linux") return;
  if ((await shortage(context, needed, except)) === undefined) return;
  await context.reclaim();
  const short = await shortage(context, needed, except);
  if (short === undefined) return;
  const { where, available } = short;
  throw fail("MEMORY_SHORT", { name, needed: formatSize(needed), available: formatSize(available), where });
}

async function shortage(context: Context, needed: number, except?: Machine) {
  const { shared, host } = await availableTo(context, except);
  const places = [
    { where: "in /dev/shm (enlarge it: mount -o remount,size=… /dev/shm)", available: shared },
    { where: "of this host", available: host },
  ];
  return places.find(({ available }) => needed > available);
}

export interface ForksAsked {
  name: string;
  memoryMiB: number;
  count: number;
  force: boolean;
  /** One that is begun already, and is to be one of them: it counts once. */
  except?: Machine;
}

/**
 * Refuses copies that borrow a frozen machine's memory where this host could not hold all that they may come to
 * write: in the end each may have a page of its own for every page it borrowed. Call it once for all of them, then
 * `createFork` each: from then on they count. MEMORY_SHORT_COPIES, unless by force.
 */
export async function admitForks(
  context: Context,
  { name, memoryMiB, count, force, except }: ForksAsked,
): Promise<void> {
  if (force || process.platform !== "linux") return;
  const needed = count * memoryMiB * mebibyte;
  if (needed <= (await availableTo(context, except)).host) return;
  await context.reclaim();
  const { host } = await availableTo(context, except);
  if (needed <= host) return;
  const [some, all] = [formatSize(host), formatSize(needed)];
  throw fail("MEMORY_SHORT_COPIES", { name, count, needed: all, available: some });
}

async function availableTo(context: Context, except?: Machine): Promise<Available> {
  const all = [...context.machines.values(), ...context.hidden];
  const running = all.filter((machine) => !machine.atRest && machine !== except);
  const { bavail, bsize } = await statfs("/dev/shm");
  const free = { shared: bavail * bsize, host: availableMemory() - reserveBytes };
  return lessPromised(free, running.map(promisedTo));
}

/** What frozen machines and touched pages take is not free any more, and need not be counted. */
export function lessPromised(free: Available, promised: readonly Promised[]): Available {
  const sum = (of: readonly Promised[]) => of.reduce((total, { bytes }) => total + bytes, 0);
  return {
    shared: Math.max(0, free.shared - sum(promised.filter(({ borrowed }) => !borrowed))),
    host: Math.max(0, free.host - sum(promised)),
  };
}

function promisedTo({ file, run, live }: Machine): Promised {
  const borrowed = (run?.memory.frozen ?? null) !== null;
  const touched = borrowed ? anonymousBytes(live?.process.pid) : allocatedMemory(file.id);
  return { bytes: Math.max(0, file.memoryMiB * mebibyte - touched), borrowed };
}

function allocatedMemory(id: string): number {
  try {
    return statSync(join(memoryDirectory(id), "ram")).blocks * 512;
  } catch {
    return 0; // just starting
  }
}

/** Pages that a QEMU has for itself (proc(5), RssAnon); its own are among them, and few. */
export function anonymousBytes(pid: number | undefined): number {
  try {
    const match = /^RssAnon:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0; // not there yet, or not any more
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
