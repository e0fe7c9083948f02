/** Guests whose disks are on volumes, while storaged and skepd are killed under them. */
import assert from "node:assert/strict";
import { randomInt } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually, type Installation } from "./support.ts";

export type Victim = "storaged" | "skepd" | "both";
export const victims: readonly Victim[] = ["storaged", "skepd", "both"];

/** Kills as a crash would, and has all run again as any command does. */
export async function killAndRevive(skep: Installation, victim: Victim): Promise<void> {
  const kills: Promise<void>[] = [];
  if (victim !== "storaged") kills.push(skep.killDaemon());
  if (victim !== "skepd") kills.push(skep.killStoraged());
  await Promise.all(kills);
  await skep.skep(["ls"]);
}

/**
 * As often as `kills` says: waits until the guest has done some more, kills, and goes on. `progress` is how
 * much was acknowledged in the guest.
 */
export async function killUnderLoad(
  skep: Installation,
  kills: number,
  progress: () => number | Promise<number>,
): Promise<void> {
  for (let kill = 0; kill < kills; kill += 1) {
    const before = await progress();
    await eventually(
      async () => (await progress()) > before + 3,
      () => `the guest's disk stands still after ${kill} kills, at ${before}`,
      300_000,
    );
    await sleep(randomInt(2000)); // anywhere in what it does
    await killAndRevive(skep, victims[kill % victims.length] as Victim);
  }
}

/** The power of the host fails, as far as this machine and storaged see it. */
export async function killMachine(skep: Installation, name: string): Promise<void> {
  const { pid } = await skep.machine(name);
  assert.ok(pid !== null, `${name} does not run`);
  process.kill(pid, "SIGKILL");
  await skep.killStoraged();
  await skep.until(name, ({ state }) => state === "stopped", "stopped");
}
