import { parseArgs } from "node:util";
import { simulate } from "./simulate.ts";

/** `npm run test:crash -- --only volumes [--seeds 10000] [--from 1]`, or `--seed N` for one again. */
const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
    /** Goes on after a failure, and lists all in the end. */
    all: { type: "boolean", default: false },
  },
});
const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
const failed: number[] = [];
for (let seed = from; seed < from + count; seed += 1) {
  try {
    await simulate(seed);
  } catch (error) {
    console.error(`seed ${seed} fails; once more: npm run test:crash -- --only volumes --seed ${seed}`);
    if (!values.all) throw error;
    console.error(error);
    failed.push(seed);
  }
  if ((seed - from + 1) % 100 === 0) console.log(`${seed - from + 1} of ${count} seeds`);
}
if (failed.length > 0) {
  console.error(`${failed.length} of ${count} seeds fail: ${failed.join(" ")}`);
  process.exitCode = 1;
} else console.log(`${count} seeds, all well`);
