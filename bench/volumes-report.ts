/** What `npm run bench:volumes` found, as tables and as JSON. */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { cpus, release, totalmem } from "node:os";

/** How fast it went on each side, of which the first is ours. */
export interface Comparison {
  what: string;
  unit: "/s" | "MB/s";
  values: Readonly<Record<string, number>>;
  /** By the other side's name: ours divided by it shall be at least that. */
  limits: Readonly<Record<string, number>>;
}

/** A value of ours alone, and what it may be at most. */
export interface Single {
  what: string;
  unit: "ms" | "MB" | "MiB" | "times";
  value: number;
  limit?: number;
}

export interface Part {
  name: string;
  title: string;
  /** What was on stable storage, and where, when a write or flush was answered. */
  durable?: string;
  rows: (Comparison | Single)[];
}

interface Verdict {
  measured: string;
  limit: string;
  kept: boolean;
}

export function verdicts(row: Comparison | Single): Verdict[] {
  if ("value" in row) {
    const { value, unit, limit } = row;
    const measured = `${value.toFixed(unit === "times" ? 2 : value < 10 ? 1 : 0)} ${unit}`;
    if (limit === undefined) return [{ measured, limit: "", kept: true }];
    return [{ measured, limit: `at most ${limit} ${unit}`, kept: value <= limit }];
  }
  const ours = Object.values(row.values)[0] ?? Number.NaN;
  return Object.entries(row.values)
    .slice(1)
    .map(([name, value]) => {
      const ratio = ours / value;
      const least = row.limits[name];
      const measured = `${ratio.toFixed(2)} of ${name}`;
      if (least === undefined) return { measured, limit: "", kept: true };
      return { measured, limit: `at least ${least}`, kept: ratio >= least };
    });
}

export function print(part: Part): void {
  console.log(`\n${part.name}: ${part.title}`);
  if (part.durable !== undefined) console.log(`durable: ${part.durable}`);
  const lines = part.rows.flatMap((row) => {
    const [ours = "", ...others] =
      "values" in row
        ? Object.entries(row.values).map(([name, value]) => `${name} ${value.toFixed(0)} ${row.unit}`)
        : [];
    return verdicts(row).map(({ measured, limit, kept }, at) => {
      const judged = limit === "" ? "" : kept ? "kept" : "MISSED";
      return [at === 0 ? row.what : "", at === 0 ? ours : "", others[at] ?? "", measured, limit, judged];
    });
  });
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  for (const line of lines) {
    const text = line.map((word, column) => word.padEnd(widths[column] ?? 0)).join("  ");
    console.log(`  ${text.trimEnd()}`);
  }
}

const commands: Record<string, string[]> = {
  fio: ["fio", "--version"],
  nbdkit: ["nbdkit", "--version"],
  "qemu-nbd": ["qemu-nbd", "--version"],
  s3backer: ["s3backer", "--version"],
  radosgw: ["radosgw", "--version"],
};

/** Of all that took part, and the machine. */
export async function versions(): Promise<Record<string, string>> {
  const found: Record<string, string> = {
    machine: `${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    load: (await readFile("/proc/loadavg", "utf8")).split(" ").slice(0, 3).join(" "),
    node: process.version,
  };
  for (const [name, [command, ...args]] of Object.entries(commands)) {
    const { stdout, stderr } = spawnSync(command as string, args, { encoding: "utf8" });
    const said = (stdout || stderr)?.split("\n")[0];
    if (said) found[name] = said;
  }
  return found;
}
