import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { readFileIfThere } from "@skep/base";

/** Clock ticks a second in /proc; 100 on every Linux that QEMU runs on. */
export const ticksPerSecond = 100;

/** Processor time that a process has had, in seconds (proc(5), utime and stime). Fails where it is gone, or no Linux. */
export async function processorSeconds(pid: number): Promise<number> {
  return secondsOf(await readFile(`/proc/${pid}/stat`, "utf8"));
}

function secondsOf(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

/** Of one thread so far, in seconds. */
export interface ThreadTime {
  ran: number;
  /** Ready to run, while others had the processors. */
  waited: number;
}

/**
 * Of each thread of a process, by its id (Linux, Documentation/scheduler/sched-stats.rst). Where the kernel does not
 * count how long they wait, that is 0. Fails where the process is gone, or no Linux.
 */
export async function threadTimes(pid: number): Promise<Map<string, ThreadTime>> {
  const directory = `/proc/${pid}/task`;
  const times = new Map<string, ThreadTime>();
  for (const thread of await readdir(directory)) {
    const time = await threadTime(join(directory, thread)).catch(() => undefined); // it has ended
    if (time !== undefined) times.set(thread, time);
  }
  return times;
}

async function threadTime(directory: string): Promise<ThreadTime> {
  const counted = await readFileIfThere(join(directory, "schedstat"));
  const [ran = 0, waited = 0] = counted?.split(" ").map((nanoseconds) => Number(nanoseconds) / 1e9) ?? [];
  if (counted !== undefined) return { ran, waited };
  return { ran: secondsOf(await readFile(join(directory, "stat"), "utf8")), waited: 0 };
}

/**
 * How much of one processor the threads of a process would take if none had to wait for others, from two looks that
 * are `seconds` apart: one who always wants to run takes all of one, however little of it the host leaves to it.
 */
export function wantedShare(
  before: ReadonlyMap<string, ThreadTime>,
  after: ReadonlyMap<string, ThreadTime>,
  seconds: number,
): number {
  let share = 0;
  for (const [thread, { ran, waited }] of after) {
    const { ran: ranBefore, waited: waitedBefore } = before.get(thread) ?? { ran: 0, waited: 0 };
    const [running, waiting] = [ran - ranBefore, waited - waitedBefore];
    if (running > 0) share += Math.min(1, running / Math.max(running, seconds - waiting));
  }
  return share;
}
