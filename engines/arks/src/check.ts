import { SkepError } from "@skep/base";
import { unpackDevice } from "./device.ts";
import { readManifest } from "./manifest.ts";
import { readIndex } from "./stored.ts";
import type { Damage, MemoryIndex, StateManifest, Transfer } from "./types.ts";
import { goThroughChunks } from "./unpack.ts";

/**
 * Reads everything of a state and tells each damage; none where it is as it was written. Where a file is
 * damaged that says what others hold, those cannot be looked at. Fails only where the disk does, or with
 * STATE_NOT_FOUND, STATE_VERSION.
 */
export async function checkState(directory: string, transfer: Transfer = {}): Promise<Damage[]> {
  const damages: Damage[] = [];
  const manifest = await orDamage(damages, () => readManifest(directory));
  if (manifest !== undefined) await checkParts(directory, manifest.manifest, damages, transfer);
  return damages;
}

async function checkParts(
  directory: string,
  manifest: StateManifest,
  damages: Damage[],
  transfer: Transfer,
): Promise<void> {
  await orDamage(damages, () => unpackDevice({ directory, manifest }));
  const index = await orDamage<MemoryIndex>(damages, () => readIndex(directory, manifest.memory));
  if (index === undefined) return;
  await orDamage(damages, () =>
    goThroughChunks({ ...transfer, directory, index, into: null }, (damage) => damages.push(damage)),
  );
}

async function orDamage<T>(damages: Damage[], read: () => Promise<T>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (!(error instanceof SkepError) || error.code !== "STATE_DAMAGED") throw error;
    damages.push(error.cause as Damage);
    return undefined;
  }
}
