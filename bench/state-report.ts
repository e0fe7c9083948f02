/** What `npm run bench:state` found, as a table and as JSON. */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { cpus, release, totalmem } from "node:os";
import { median } from "./measure.ts";

/** A promise, and what was measured for it: medians. Less is better. */
export interface Row {
  what: string;
  unit: "ms" | "MiB";
  skep: number;
  /** How many were measured on each side. */
  of: number;
  /** The side that it is compared with, `script` or another's name. */
  other?: { name: string; value: number };
  /** At most so many. */
  limit?: number;
  /** At most so many times the other side; or, where it is to be smaller, the least that the other is of ours. */
  ratioLimit?: number;
  /** What else belongs to it. */
  note?: string;
}

export interface Part {
  title: string;
  rows: Row[];
  /** Why something of it could not be measured. */
  missing?: string[];
}

interface Verdict {
  measured: string;
  limit: string;
  kept: boolean;
}

export function verdicts({ unit, skep, other, limit, ratioLimit }: Row): Verdict[] {
  const found: Verdict[] = [];
  if (limit !== undefined) {
    found.push({ measured: text(skep, unit), limit: `at most ${limit} ${unit}`, kept: skep <= limit });
  }
  if (other !== undefined) {
    const ratio = skep / other.value;
    const measured = `${ratio.toFixed(ratio < 0.1 ? 3 : 2)} of ${other.name}`;
    if (ratioLimit === undefined) found.push({ measured, limit: "", kept: true });
    else found.push({ measured, limit: `at most ${ratioLimit}`, kept: ratio <= ratioLimit });
  }
  return found.length > 0 ? found : [{ measured: "", limit: "", kept: true }];
}

const text = (value: number, unit: Row["unit"]) => `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;

export function print({ title, rows, missing = [] }: Part): void {
  const lines = rows.flatMap((row) => {
    const { what, unit, skep, of, other, note = "" } = row;
    return verdicts(row).map(({ measured, limit, kept }, at) => {
      const judged = limit === "" ? "" : kept ? "kept" : "MISSED";
      const theirs = other === undefined ? "" : `${other.name} ${text(other.value, unit)}`;
      const sides = at === 0 ? [what, `skep ${text(skep, unit)}`, theirs, `of ${of}`] : ["", "", "", ""];
      return [...sides, measured, limit, judged, at === 0 ? note : ""];
    });
  });
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  console.log(`\n${title}`);
  for (const line of lines) {
    const words = line.map((word, column) => word.padEnd(widths[column] ?? 0)).join("  ");
    console.log(`  ${words.trimEnd()}`);
  }
  for (const why of missing) console.log(`  not measured: ${why}`);
}

/** What was measured on all sides, by name. */
export class Samples {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    this.#values.set(name, [...(this.#values.get(name) ?? []), value]);
  }

  median(name: string): number {
    return median(this.of(name));
  }

  of(name: string): readonly number[] {
    const values = this.#values.get(name);
    if (values === undefined) throw new Error(`nothing was measured of ${name}`);
    return values;
  }

  /** A row of `ours` against `theirs`. */
  row(what: string, ours: string, theirs?: string, more: Partial<Row> = {}): Row {
    const of = Math.min(this.of(ours).length, ...(theirs === undefined ? [] : [this.of(theirs).length]));
    const other = theirs === undefined ? {} : { other: { name: "script", value: this.median(theirs) } };
    return { what, unit: "ms", skep: this.median(ours), of, ...other, ...more };
  }
}

type Side = (add: (name: string, value: number) => void) => Promise<void>;

/** As `interleave` does, where each side measures more than one thing. `first`: of what boots all are alike. */
export async function inTurns(
  rounds: number,
  sides: readonly Side[],
  { first = "is left out" }: { first?: "counts" | "is left out" } = {},
): Promise<Samples> {
  const samples = new Samples();
  const uncounted = first === "counts" ? 0 : 1;
  for (let round = 0; round < rounds + uncounted; round += 1) {
    for (let turn = 0; turn < sides.length; turn += 1) {
      const side = sides[(turn + round) % sides.length] as Side;
      await side((name, value) => (round < uncounted ? undefined : samples.add(name, value)));
    }
  }
  return samples;
}

const commands: Record<string, string[]> = {
  qemu: ["qemu-system-x86_64", "--version"],
  libvirt: ["libvirtd", "--version"],
  "virt-install": ["virt-install", "--version"],
  commit: ["git", "-C", import.meta.dirname, "describe", "--always", "--dirty"],
};

/** Of all that took part, and the machine. */
export async function versions(): Promise<Record<string, string>> {
  const found: Record<string, string> = {
    machine: `${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release()}`,
    load: (await readFile("/proc/loadavg", "utf8")).split(" ").slice(0, 3).join(" "),
    node: process.version,
  };
  for (const [name, [command, ...args]] of Object.entries(commands)) {
    const said = spawnSync(command as string, args, { encoding: "utf8" }).stdout?.split("\n")[0];
    if (said) found[name] = said;
  }
  return found;
}
