import { readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import type { RemoveRequest } from "@skep/api/schemas";
import type { Work } from "@skep/base";
import type { Context } from "./context.ts";
import { sweepLayers } from "./disk.ts";
import { fail } from "./errors.ts";
import { clearRuntime } from "./live.ts";
import type { Machine } from "./machine.ts";
import { homePaths } from "./paths.ts";
import { stopMachine } from "./stop.ts";

/** Removes a machine and every file of it. */
export async function removeMachine(machine: Machine, request: RemoveRequest, work: Work): Promise<void> {
  const { context, name, paths } = machine;
  if (machine.state !== "stopped") {
    if (request.force !== true) throw fail("MACHINE_RUNNING", { verb: "remove", name });
    await stopMachine(machine, { force: true }, work);
  }
  work.report({ phase: `removing ${name}` });
  await discard(context, paths.directory, machine.file.id);
  await clearRuntime(machine);
  context.machines.delete(name);
  context.ssh.drop(name);
  await sweepUnusedLayers(context).catch((error: unknown) =>
    context.log.warn({ err: error }, "cannot sweep layers"),
  );
  context.emit({ type: "machine.removed", subject: name, data: { id: machine.file.id } });
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

/** Clears away what a killed skepd left half made or half removed. */
export async function sweepLeftovers(context: Context): Promise<void> {
  const { machines } = homePaths(context.home);
  for (const name of await readdir(machines)) {
    if (name.startsWith(".new-") || name.startsWith(".rm-")) {
      await rm(join(machines, name), { recursive: true, force: true });
    }
  }
}
