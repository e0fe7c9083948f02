import { spawn } from "node:child_process";

/** Runs a command to its end and tells how long it took. Fails with its standard error. */
export async function timed(
  command: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ ms: number; stdout: string }> {
  const [program, ...args] = command as [string, ...string[]];
  const start = performance.now();
  const child = spawn(program, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data) => {
    stdout += data;
  });
  child.stderr.on("data", (data) => {
    stderr += data;
  });
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  const ms = performance.now() - start;
  if (status !== 0) throw new Error(`${command.join(" ")} ended with ${status}: ${stderr || stdout}`);
  return { ms, stdout };
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Measures several sides in turns, so that what else the machine does falls on all alike; the order
 * within a round is turned each time. Medians in ms, after one round that does not count.
 */
export async function interleave<Side extends string>(
  rounds: number,
  sides: Record<Side, () => Promise<number>>,
): Promise<Record<Side, number>> {
  const names = Object.keys(sides) as Side[];
  const values = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Side, number[]>;
  for (let round = 0; round <= rounds; round += 1) {
    for (let turn = 0; turn < names.length; turn += 1) {
      const name = names[(turn + round) % names.length]!;
      const ms = await sides[name]();
      if (round > 0) values[name].push(ms);
    }
  }
  return Object.fromEntries(names.map((name) => [name, median(values[name])])) as Record<Side, number>;
}

/** One promise of docs/SPECIFICATION.md and what was measured for it. */
export interface Result {
  promise: string;
  /** What was measured, with its unit: `61 ms`. */
  measured: string;
  limit: string;
  kept: boolean;
}

export function atMost(
  promise: string,
  value: number,
  limit: number,
  unit: "ms" | "MB" | "times" | "%",
): Result {
  const digits = unit === "ms" || unit === "MB" ? 0 : 2;
  return {
    promise,
    measured: `${value.toFixed(digits)} ${unit}`,
    limit: `at most ${limit} ${unit}`,
    kept: value <= limit,
  };
}

export function atLeast(promise: string, value: number, limit: number, unit: "times"): Result {
  return {
    promise,
    measured: `${value.toFixed(2)} ${unit}`,
    limit: `at least ${limit} ${unit}`,
    kept: value >= limit,
  };
}

export function printResults(results: readonly Result[]): void {
  const rows = [["promise", "measured", "limit", ""]].concat(
    results.map(({ promise, measured, limit, kept }) => [promise, measured, limit, kept ? "kept" : "BROKEN"]),
  );
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    console.log(
      row
        .map((text, column) => text.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    );
  }
}
