import { closeSync, constants, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isErrno, processArguments, processStartTime } from "@skep/base";

/** A QEMU process, told apart from a later process with the same pid by its start time. */
export interface QemuProcess {
  pid: number;
  startTime: string;
}

/** What a machine's QEMU is known by. */
export interface QemuOwner {
  id: string;
  /** The machine's own user, or null where it runs as ours. */
  uid: number | null;
}

/** Whether the process is a QEMU (or on its way to become one) of this machine. */
function runsMachine(pid: number, { id, uid }: QemuOwner): boolean {
  const args = processArguments(pid);
  if (args === undefined || args.length === 0) return false;
  const program = basename(args[0] as string);
  const at = args.indexOf("-uuid");
  if (!(program.startsWith("qemu-system-") || program === "setpriv") || at <= 0) return false;
  if (args[at + 1] !== id) return false;
  // Anybody may call a process so; only the machine's user and we can own its QEMU.
  const owner = statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid;
  return owner === process.getuid?.() || (uid !== null && owner === uid);
}

function identify(pid: number, machine: QemuOwner): QemuProcess | undefined {
  if (!Number.isInteger(pid) || pid <= 1 || !runsMachine(pid, machine)) return undefined;
  const startTime = processStartTime(pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/**
 * The running QEMU of a machine. A pidfile is only a hint: it may be stale, or QEMU may have been
 * started and skepd killed before the file was written, so that all processes are looked through.
 */
export function findProcess(machine: QemuOwner, pidFile: string): QemuProcess | undefined {
  const found = identify(readPid(pidFile), machine);
  if (found !== undefined) return found;
  for (const entry of processes()) {
    const found = identify(entry, machine);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** QEMU owns the directory of its pidfile, so that anything may lie there: a link, a pipe, a folder. */
function readPid(path: string): number {
  try {
    const file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const bytes = Buffer.alloc(16);
      return Number.parseInt(bytes.toString("latin1", 0, readSync(file, bytes)), 10);
    } finally {
      closeSync(file);
    }
  } catch {
    return Number.NaN;
  }
}

function processes(): number[] {
  try {
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  } catch {
    return []; // no /proc here (macOS): the pidfile is all there is
  }
}

/** Looks through all processes once, for a start with many machines: ids to processes. */
export function findProcesses(machines: Iterable<QemuOwner>): Map<string, QemuProcess> {
  const byId = new Map<string, QemuOwner>();
  for (const machine of machines) byId.set(machine.id, machine);
  const found = new Map<string, QemuProcess>();
  for (const pid of processes()) {
    const args = processArguments(pid);
    const machine = byId.get(args?.[args.indexOf("-uuid") + 1] ?? "");
    if (machine === undefined) continue;
    const process = identify(pid, machine);
    if (process !== undefined) found.set(machine.id, process);
  }
  return found;
}

/** Where it cannot be told, nothing may be cleared away: then it counts as alive. */
export function isAlive({ pid, startTime }: QemuProcess): boolean {
  try {
    return processStartTime(pid) === startTime;
  } catch {
    return true;
  }
}

/** Sends a signal unless the pid has become another program. */
export function signalProcess(process_: QemuProcess, signal: NodeJS.Signals): void {
  if (!isAlive(process_)) return;
  try {
    process.kill(process_.pid, signal);
  } catch (error) {
    if (!isErrno(error, "ESRCH")) throw error;
  }
}

/** True once the process is gone, false when it outlives the time-out. */
export async function waitGone(
  process_: QemuProcess,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const until = performance.now() + timeoutMs; // a clock that is set meanwhile changes nothing
  while (isAlive(process_)) {
    if (performance.now() >= until) return false;
    await sleep(20, undefined, signal === undefined ? {} : { signal });
  }
  return true;
}
