/**
 * `npm run bench:volumes`: the promises about volumes in docs/SPECIFICATION.md, on this machine. Both sides of a
 * ratio take turns in one run; values are medians. `--only nbd,local,s3,cold,open,overwrite,idle,guest` picks
 * parts, `--rounds N`, `--seconds S` (of one side in one round), `--directory PATH` (the disk; default /tmp),
 * `--full` (10 GiB where otherwise one is written), `--json`, `--profile DIRECTORY` (of our processes).
 * Needs fio, nbdkit, qemu-nbd; s3backer and Ceph's radosgw for "s3". All of it in Debian.
 */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchCold } from "./volumes-cold.ts";
import type { Setting } from "./volumes-fio.ts";
import { benchGuest } from "./volumes-guest.ts";
import { benchLocal } from "./volumes-local.ts";
import { benchNbd } from "./volumes-nbd.ts";
import { benchIdle, benchOpen, benchOverwrite } from "./volumes-open.ts";
import { type Part, print, verdicts, versions } from "./volumes-report.ts";
import { benchS3 } from "./volumes-s3.ts";
import { unmountAll } from "./volumes-sides.ts";

const parts: Record<string, (setting: Setting) => Promise<Part[]>> = {
  nbd: benchNbd,
  local: benchLocal,
  s3: benchS3,
  cold: benchCold,
  open: benchOpen,
  overwrite: benchOverwrite,
  idle: benchIdle,
  guest: benchGuest,
};

const { values: options } = parseArgs({
  options: {
    only: { type: "string", default: Object.keys(parts).join(",") },
    rounds: { type: "string", default: "5" },
    seconds: { type: "string", default: "3" },
    directory: { type: "string", default: "/tmp" },
    full: { type: "boolean", default: false },
    json: { type: "boolean", default: false },
    profile: { type: "string" },
  },
});
const names = options.only.split(",");
const unknown = names.find((name) => !(name in parts));
if (unknown !== undefined) throw new Error(`--only ${unknown}: there are ${Object.keys(parts).join(", ")}`);

const base = await mkdtemp(join(options.directory, "skep-bench-"));
const cleanups = new AsyncDisposableStack();
cleanups.defer(() => rm(base, { recursive: true, force: true, maxRetries: 3 }));
cleanups.defer(() => unmountAll(base));
let cleaning: Promise<void> | undefined;
/** Once, and all wait for it: what is cut off fails meanwhile, and must not end the process before. */
const cleanUp = () => (cleaning ??= cleanups.disposeAsync());
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  // Our own processes end with this one.
  process.once(signal, () => void cleanUp().finally(() => process.exit(130)));
}

const about = await versions();
if (!options.json)
  console.log(
    Object.entries(about)
      .map((pair) => pair.join(" "))
      .join("; "),
  );
const done: Part[] = [];
try {
  for (const name of names) {
    const directory = join(base, name);
    await mkdir(directory);
    const { full, profile } = options;
    const setting = {
      directory,
      full,
      profile,
      rounds: Number(options.rounds),
      seconds: Number(options.seconds),
      cleanups,
    };
    const found = await (parts[name] as (typeof parts)[string])(setting);
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
    done.push(...found);
    if (!options.json) for (const part of found) print(part);
  }
} finally {
  await cleanUp();
}
if (options.json) console.log(JSON.stringify({ about, parts: done }, null, 2));
const judged = done.flatMap(({ rows }) => rows.flatMap(verdicts));
process.exitCode = judged.every(({ kept }) => kept) ? 0 : 1;
