import type { Machine } from "./machine.ts";
import { shortId } from "./paths.ts";

const longestName = 48;

/** What a volume of a copy is made of. */
export interface ClonedFrom {
  /** Of the copy's volume, as its machine's file has it. */
  id: string;
  source: { volume: string; snapshot: string };
}

/**
 * Makes the volumes that a copy's file names, before it is started; where this fails `abandonFork` removes them.
 * `takesSnapshots`: their snapshots go with the last clones of them. VOLUME_EXISTS where a name is taken.
 */
export async function cloneVolumes(
  machine: Machine,
  clones: readonly ClonedFrom[],
  takesSnapshots: boolean,
): Promise<void> {
  const { volumes } = machine.context;
  for (const { id, source } of clones) {
    const name = await nameOf(machine, id, source.volume);
    const named = name.length <= longestName ? { name } : {};
    await volumes.cloneSnapshot({ id, source, takesSnapshot: takesSnapshots, ...named });
  }
}

async function nameOf({ context, file, name }: Machine, id: string, source: string): Promise<string> {
  const role = file.volumes.find((volume) => volume.id === id)?.role ?? "data";
  if (role !== "data") return `${name.slice(0, 30)}-${role}-${shortId(file.id)}`;
  const found = await context.volumes.resolve(source);
  return `${name}-${found.name ?? source}`;
}
