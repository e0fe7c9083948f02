import { readdirSync, readFileSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isErrno, processArguments, processStartTime } from "@skep/base";

/** A QEMU process, told apart from a later process with the same pid by its start time. */
export interface QemuProcess {
  pid: number;
  startTime: string;
}

/** Whether the process is a QEMU (or on its way to become one) of the machine with this id. */
function runsMachine(pid: number, id: string): boolean {
  const args = processArguments(pid);
  if (args === undefined || args.length === 0) return false;
  const program = basename(args[0] as string);
  const at = args.indexOf("-uuid");
  return (program.startsWith("qemu-system-") || program === "setpriv") && at > 0 && args[at + 1] === id;
}

function identify(pid: number, id: string): QemuProcess | undefined {
  if (!Number.isInteger(pid) || pid <= 1 || !runsMachine(pid, id)) return undefined;
  const startTime = processStartTime(pid);
  return startTime === undefined ? undefined : { pid, startTime };
}

/**
 * The running QEMU of a machine. A pidfile is only a hint: it may be stale, or QEMU may have been
 * started and skepd killed before the file was written, so that all processes are looked through.
 */
export function findProcess(id: string, pidFile: string): QemuProcess | undefined {
  try {
    const found = identify(Number.parseInt(readFileSync(pidFile, "utf8"), 10), id);
    if (found !== undefined) return found;
  } catch (error) {
    if (!isErrno(error, "ENOENT")) throw error;
  }
  for (const entry of processes()) {
    const found = identify(entry, id);
    if (found !== undefined) return found;
  }
  return undefined;
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
export function findProcesses(ids: ReadonlySet<string>): Map<string, QemuProcess> {
  const found = new Map<string, QemuProcess>();
  for (const pid of processes()) {
    const args = processArguments(pid);
    const id = args?.[args.indexOf("-uuid") + 1];
    if (id === undefined || !ids.has(id)) continue;
    const process = identify(pid, id);
    if (process !== undefined) found.set(id, process);
  }
  return found;
}

export function isAlive({ pid, startTime }: QemuProcess): boolean {
  return processStartTime(pid) === startTime;
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
  const until = Date.now() + timeoutMs;
  while (isAlive(process_)) {
    if (Date.now() >= until) return false;
    await sleep(20, undefined, signal === undefined ? {} : { signal });
  }
  return true;
}
