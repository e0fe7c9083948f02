import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RemoveRequest } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import type { Context } from "./context.ts";
import type { DamagedMachine } from "./damaged.ts";
import { sweepLayers } from "./disk.ts";
import { fail } from "./errors.ts";
import { clearRuntime } from "./live.ts";
import type { Machine } from "./machine.ts";
import { discardUnfinished, removeOwnVolumes, unfinishedVolumes } from "./own-volumes.ts";
import { homePaths, machinePaths } from "./paths.ts";
import { stopMachine } from "./stop.ts";
import { releaseVolume } from "./volumes.ts";

/**
 * Removes a machine and every file of it, and the volumes that are its own; data volumes are set free. The
 * volumes go first, for as long as the machine is there the removal can be repeated.
 */
export async function removeMachine(machine: Machine, request: RemoveRequest, work: Work): Promise<void> {
  const { context, name, paths } = machine;
  if (!machine.atRest) {
    if (request.force !== true) throw fail("MACHINE_RUNNING", { verb: "remove", name });
    await stopMachine(machine, { force: true }, work);
  }
  work.report({ phase: `removing ${name}` });
  for (const id of Object.keys(machine.run?.served ?? {})) await releaseVolume(machine, id);
  const kept = machine.file.volumes.filter(({ role }) => role === "data" || request.keepVolumes === true);
  const needed = request.keepVolumes === true ? [] : await removeOwnVolumes(machine);
  if (kept.length > 0) work.note(`kept: ${kept.map(({ id }) => id).join(", ")}`);
  if (needed.length > 0) {
    work.note(`kept, for they have snapshots or clones: ${needed.join(", ")}; see: skep vol ls`);
  }
  const saved = machine.file.suspended?.state;
  await discard(context, paths.directory, machine.file.id);
  if (saved !== undefined) await context.discardState(saved);
  await clearRuntime(machine);
  context.machines.delete(name);
  context.ssh.drop(name);
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
  context.emit({ type: "machine.removed", subject: name, data: { id: machine.file.id } });
}

/** What it had as volumes is nobody's then: its file cannot be trusted to say which are its own. */
export async function removeDamaged(
  context: Context,
  { name, volumes }: DamagedMachine,
  work: Work,
): Promise<void> {
  for (const id of volumes) await context.volumes.release(id, name);
  if (volumes.length > 0) work.note(`kept: ${volumes.join(", ")}`);
  await discard(context, machinePaths(context.home, name).directory, `damaged-${name}`);
  context.damaged.delete(name);
  context.emit({ type: "machine.removed", subject: name, data: {} });
}

/** Away from its name at once, so that a crash leaves no half machine, then bit by bit. */
export async function discard(context: Context, directory: string, id: string): Promise<void> {
  const doomed = join(homePaths(context.home).machines, `.rm-${id}`);
  try {
    await rename(directory, doomed);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
  }
  await rm(doomed, { recursive: true, force: true });
}

/** Removes layers that nothing stands on. What a damaged machine stands on is not known: then none go. */
export async function sweepUnusedLayers(context: Context): Promise<void> {
  const { home, machines, pending } = context;
  await context.locks.run("layers", async () => {
    const entries = await readdir(homePaths(home).machines, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith("."));
    if (names.some(({ name }) => !machines.has(name))) return;
    const files = [...[...machines.values()].map(({ file }) => file), ...pending];
    await sweepLayers(
      home,
      files.map(({ disk }) => disk?.base ?? null),
    );
  });
}

/**
 * Clears away what a killed skepd left half made or half removed. Gives back what is to be done in the
 * background: what has volumes needs storaged.
 */
export async function sweepLeftovers(context: Context): Promise<() => Promise<void>> {
  const { machines } = homePaths(context.home);
  const unfinished: string[] = [];
  for (const name of await readdir(machines)) {
    const directory = join(machines, name);
    if (!name.startsWith(".new-") && !name.startsWith(".rm-")) continue;
    if (name.startsWith(".new-") && (await unfinishedVolumes(directory)) !== undefined)
      unfinished.push(directory);
    else await rm(directory, { recursive: true, force: true });
  }
  return async () => {
    for (const directory of unfinished) await discardUnfinished(context, directory);
  };
}
