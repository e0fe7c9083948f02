/** Copies of a running machine, one and eight; and how long a machine stands still for that, and for a snapshot. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ForkResult } from "@skep/api/schemas";
import { inTurns, type Part, type Samples } from "./state-report.ts";
import type { ScriptFreeze } from "./state-script-fork.ts";
import { pairOf, pidOf } from "./state-source.ts";
import type { World } from "./state-world.ts";

type Add = (name: string, value: number) => void;

const many = 8;

export async function benchFork(world: World): Promise<Part> {
  return await compare(world, "one fork with an identity of its own", {
    skep: (add) => skepForks(world, 1, add),
    async script(directory, add) {
      const [frozen, copy] = placesOf(world);
      const told = await world.script<ScriptFreeze>("fork", directory, frozen, copy);
      add("script wall", told.wallMs);
      add("script ready", told.readyMs as number);
      add("script pause", told.pauseMs);
      await removeCopies(frozen, [copy]);
    },
    rows: (samples) => [
      samples.row("skep fork web, from the command to its end", "skep wall", "script wall", {
        limit: 800,
        ratioLimit: 1.25,
      }),
      samples.row("… from skepd's getting it to ready", "skep ready", "script ready", { ratioLimit: 1.25 }),
      pauseRow(samples),
    ],
  });
}

export async function benchForkMany(world: World): Promise<Part> {
  return await compare(world, `${many} forks, all ready`, {
    skep: (add) => skepForks(world, many, add),
    async script(directory, add) {
      const [frozen, copy] = placesOf(world);
      const started = performance.now();
      const { pauseMs, wallMs } = await world.script<ScriptFreeze>("freeze", directory, frozen);
      const copies = Array.from({ length: many }, (_, index) => `${copy}-${index}`);
      await Promise.all(copies.map((one) => world.script("copy", frozen, one)));
      const allMs = performance.now() - started;
      add("script wall", allMs);
      add("script copies", allMs - wallMs);
      add("script pause", pauseMs);
      await removeCopies(frozen, copies);
    },
    rows: (samples) => [
      samples.row(`skep fork web -n ${many}, from the command to its end`, "skep wall", "script wall", {
        ratioLimit: 1.25,
        note: `the script's ${many} copies alone ${samples.median("script copies").toFixed(0)} ms`,
      }),
      samples.row("… from skepd's getting it to the last one's ready", "skep ready"),
      pauseRow(samples),
    ],
  });
}

export async function benchPause(world: World): Promise<Part> {
  let taken = 0;
  return await compare(world, "snapshot of a running machine, with memory", {
    async skep(add) {
      const name = `kept-${taken++}`;
      const { ms, stdout } = await world.skep("snapshot", "create", "web", name, "--json");
      const { pauseMs, memory } = JSON.parse(stdout) as {
        pauseMs: number;
        memory: { populatedMiB: number };
      };
      add("skep wall", ms);
      add("skep pause", pauseMs);
      add("skep MiB", memory.populatedMiB);
      await world.skep("snapshot", "rm", "web", name);
    },
    async script(directory, add) {
      const [frozen] = placesOf(world);
      add("script pause", (await world.script<ScriptFreeze>("freeze", directory, frozen)).pauseMs);
      await removeCopies(frozen, []);
    },
    rows: (samples) => [pauseRow(samples), samples.row("skep snapshot create web, to its end", "skep wall")],
  });
}

interface Sides {
  skep(add: Add): Promise<void>;
  /** `directory`: of its machine. */
  script(directory: string, add: Add): Promise<void>;
  rows(samples: Samples): Part["rows"];
}

async function compare(world: World, title: string, { skep, script, rows }: Sides): Promise<Part> {
  const { script: directory } = await pairOf(world);
  const samples = await inTurns(world.rounds.all, [
    async (add) => {
      await sleep(world.idleMs);
      await skep(add);
    },
    async (add) => {
      await sleep(world.idleMs);
      await script(directory, add);
    },
  ]);
  return { title, rows: rows(samples) };
}

function pauseRow(samples: Samples) {
  const note = `${samples.median("skep MiB").toFixed(0)} MiB populated`;
  return samples.row("pause of the machine", "skep pause", "script pause", { limit: 300, note });
}

async function skepForks(world: World, count: number, add: Add): Promise<void> {
  const { ms, stdout } = await world.skep("fork", "web", "-n", String(count), "--prefix", "copy", "--json");
  const { copies, pauseMs, populatedMiB } = JSON.parse(stdout) as ForkResult;
  add("skep wall", ms);
  add("skep ready", Math.max(...copies.map(({ readyMs }) => readyMs)));
  add("skep pause", pauseMs as number);
  add("skep MiB", populatedMiB);
  await world.skep("rm", "--force", ...copies.map(({ name }) => name));
}

/** Of what the script freezes, and of its copies. */
function placesOf(world: World): [string, string] {
  return [join(world.memory, "frozen"), join(world.base, "script/copy")];
}

async function removeCopies(frozen: string, copies: readonly string[]): Promise<void> {
  for (const directory of copies) process.kill(await pidOf(directory), "SIGKILL");
  for (const path of [frozen, ...copies]) await rm(path, { recursive: true, force: true });
}
