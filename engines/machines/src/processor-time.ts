import { readFile } from "node:fs/promises";

/** Clock ticks a second in /proc; 100 on every Linux that QEMU runs on. */
const ticksPerSecond = 100;

/** Processor time that a process has had, in seconds (proc(5), utime and stime). Fails where it is gone, or no Linux. */
export async function processorSeconds(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}
