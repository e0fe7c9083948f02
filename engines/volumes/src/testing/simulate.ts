import { CrashRun } from "./crash-run.ts";
import { TakeOverRun } from "./take-over-run.ts";

/** What one seed stands for. */
export function simulate(seed: number): Promise<void> {
  return (seed % 5 === 0 ? new TakeOverRun(seed) : new CrashRun(seed)).run();
}
