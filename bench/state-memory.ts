/** What idle copies take of this host's memory, beside a machine that has booted. */
import { setTimeout as sleep } from "node:timers/promises";
import type { ForkResult, Machine } from "@skep/api/schemas";
import { pssMiB } from "./state-agent.ts";
import { inTurns, type Part } from "./state-report.ts";
import { pairOf, removePair } from "./state-source.ts";
import type { World } from "./state-world.ts";

type Add = (name: string, value: number) => void;

/** All of it after the same time without work. */
export async function benchMemory(world: World): Promise<Part> {
  await pairOf(world);
  const samples = await inTurns(world.rounds.all, [
    (add) => forks(world, 1, add),
    (add) => forks(world, 8, add),
  ]);
  await removePair(world);
  const cold = await inTurns(world.rounds.cold, [(add) => booted(world, add)], { first: "counts" });
  const value = cold.median("cold");
  const after = `after ${world.memoryIdleMs / 1000} s idle`;
  const rows = [1, 8].map((count) =>
    samples.row(`PSS of the QEMU of an idle fork, of ${count}, ${after}`, `${count}`, undefined, {
      unit: "MiB",
      other: { name: "booted", value },
      ratioLimit: 0.5,
      note: `what they borrow has ${samples.median(`${count} frozen`).toFixed(0)} MiB; booted: of ${cold.of("cold").length}`,
    }),
  );
  return { title: "memory of copies", rows };
}

async function forks(world: World, count: number, add: Add): Promise<void> {
  const { stdout } = await world.skep("fork", "web", "-n", String(count), "--prefix", "copy", "--json");
  const { copies, populatedMiB } = JSON.parse(stdout) as ForkResult;
  await sleep(world.memoryIdleMs);
  const names = copies.map(({ name }) => name);
  const machines = JSON.parse((await world.skep("ls", "--json")).stdout) as Machine[];
  const pids = machines.filter(({ name }) => names.includes(name)).map(({ pid }) => pid as number);
  for (const pid of pids) add(`${count}`, await pssMiB(pid));
  add(`${count} frozen`, populatedMiB);
  await world.skep("rm", "--force", ...names);
}

async function booted(world: World, add: Add): Promise<void> {
  await world.guest("cold", 1024);
  await sleep(world.memoryIdleMs);
  add("cold", await pssMiB((await world.machine("cold")).pid as number));
  await world.skep("rm", "--force", "cold");
}
