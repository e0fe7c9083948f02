import { parseArgs } from "node:util";
import { CrashRun } from "./crash-run.ts";

/** `npm run test:crash -- --only objects [--seeds 10000] [--from 1]`, or `--seed N` for one again. */
const { values } = parseArgs({
  options: {
    seeds: { type: "string", default: "1000" },
    from: { type: "string", default: "1" },
    seed: { type: "string" },
  },
});
const from = Number(values.seed ?? values.from);
const count = values.seed === undefined ? Number(values.seeds) : 1;
for (let seed = from; seed < from + count; seed += 1) {
  try {
    await new CrashRun(seed).run();
  } catch (error) {
    console.error(`seed ${seed} fails; once more: npm run test:crash -- --only objects --seed ${seed}`);
    throw error;
  }
  if ((seed - from + 1) % 500 === 0) console.log(`${seed - from + 1} of ${count} seeds`);
}
console.log(`${count} seeds, all well`);
