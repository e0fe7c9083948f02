import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { allFiles, type Context } from "./context.ts";
import { abandonFork, forksMark, setForkAside, unfinishedFork } from "./fork.ts";
import { basesOf, sweepLayers } from "./layers.ts";
import { discardUnfinished, unfinishedVolumes } from "./own-volumes.ts";
import { homePaths } from "./paths.ts";

/** Removes layers that nothing stands on. What a damaged machine stands on is not known: then none go. */
export async function sweepUnusedLayers(context: Context): Promise<void> {
  const { home, machines, hidden, held } = context;
  await context.locks.run("layers", async () => {
    const entries = await readdir(homePaths(home).machines, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isDirectory() && !entry.name.startsWith("."));
    const unseen = new Set([...hidden].map(({ name }) => name));
    if (names.some(({ name }) => !machines.has(name) && !unseen.has(name))) return;
    const elsewhere = await context.basesElsewhere();
    const making = [...machines.values(), ...hidden].flatMap(({ run }) => run?.freezing ?? []);
    const bases = [...allFiles(context).flatMap(basesOf), ...held, ...elsewhere];
    await sweepLayers(
      home,
      bases,
      making.map(({ layer }) => layer),
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
  for (const entry of await readdir(machines, { withFileTypes: true })) {
    const { name } = entry;
    const directory = join(machines, name);
    const isMachine = entry.isDirectory() && !name.startsWith(".");
    const fork = isMachine ? await unfinishedFork(context, name) : undefined;
    const aside = fork === undefined ? undefined : await setForkAside(fork);
    if (aside !== undefined) unfinished.push(aside);
    else if (fork !== undefined) await abandonFork(fork);
    if (name.startsWith(forksMark)) await rm(directory, { force: true });
    if (!name.startsWith(".new-") && !name.startsWith(".rm-")) continue;
    if (name.startsWith(".new-") && (await unfinishedVolumes(directory)) !== undefined)
      unfinished.push(directory);
    else await rm(directory, { recursive: true, force: true });
  }
  return async () => {
    for (const directory of unfinished) await discardUnfinished(context, directory);
  };
}
