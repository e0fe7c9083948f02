/**
 * `npm run bench:state`: the promises about suspend, resume, snapshots, forks and warm starts in docs/SPECIFICATION.md,
 * on this machine. Sides take turns in one run; values are medians. `--only resume,fork,fork8,pause,idle,memory,new` picks
 * parts, `--rounds N` (of all; default 10), `--cold-rounds N` (of what boots; default as `--rounds`), `--json`.
 * skep is the bundle in build/skep (made anew), the script is bench/state-script.ts, the guest the test cache's Debian.
 */
import { parseArgs } from "node:util";
import { benchFork, benchForkMany, benchPause } from "./state-fork.ts";
import { benchIdle } from "./state-idle.ts";
import { benchMemory } from "./state-memory.ts";
import { benchNew } from "./state-new.ts";
import { type Part, print, verdicts, versions } from "./state-report.ts";
import { benchResume } from "./state-resume.ts";
import { World } from "./state-world.ts";

const parts: Record<string, (world: World) => Promise<Part>> = {
  resume: benchResume,
  fork: benchFork,
  fork8: benchForkMany,
  pause: benchPause,
  idle: benchIdle,
  memory: benchMemory,
  new: benchNew,
};

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: Object.keys(parts).join(",") },
    rounds: { type: "string", default: "10" },
    "cold-rounds": { type: "string" },
    json: { type: "boolean", default: false },
  },
});
const names = options.only.split(",");
const unknown = names.find((name) => !(name in parts));
if (unknown !== undefined) throw new Error(`--only ${unknown}: there are ${Object.keys(parts).join(", ")}`);
const all = Number(options.rounds);
const cold = Number(options["cold-rounds"] ?? all);

const world = await World.make({ all, cold });
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // What is cut off fails meanwhile, and waits for the same end.
  process.once(signal, () => void world[Symbol.asyncDispose]().finally(() => process.exit(130)));
}

const about = await versions();
if (!options.json) {
  const words = Object.entries(about).map((pair) => pair.join(" "));
  console.log(words.join("; "));
}
const done: Part[] = [];
try {
  await world.prepare();
  for (const name of names) {
    const part = await (parts[name] as (typeof parts)[string])(world);
    done.push(part);
    if (!options.json) print(part);
  }
} finally {
  await world[Symbol.asyncDispose]();
}
if (options.json) console.log(JSON.stringify({ about, parts: done }, null, 2));
const judged = done.flatMap(({ rows }) => rows.flatMap(verdicts));
process.exitCode = judged.every(({ kept }) => kept) ? 0 : 1;
