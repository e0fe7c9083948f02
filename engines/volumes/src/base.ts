import type { Core } from "./core.ts";
import { type Manifest, mapKeys } from "./manifest.ts";
import { encodeMapObject, type MapObject } from "./map/codec.ts";
import { mapCodec } from "./map-objects.ts";
import { isKept } from "./marks.ts";
import { mapKey } from "./paths.ts";

/** Of deltas that are objects of their own. */
const mostDeltas = 64;
/** Deltas may weigh as much as the base, and this in any case. */
const lightDeltas = 256 * 1024;

export async function encodedObject(
  core: Core,
  object: MapObject,
): Promise<{ key: string; bytes: Uint8Array }> {
  const { id, env, ownership } = core;
  const key = mapKey(id, ownership.manifest.Epoch, object.version);
  return { key, bytes: await encodeMapObject(object, mapCodec(env, core.key, key)) };
}

export async function putMapObject(
  { env, ownership, counters }: Core,
  key: string,
  bytes: Uint8Array,
): Promise<void> {
  await ownership.persist(() => env.store.put(key, bytes, { signal: ownership.ending }));
  counters.bytesToStore += bytes.length;
}

/** Of what the manifest itself holds of the map. */
export function inlineBytes(inline: Manifest["Map"]["Inline"]): number {
  return Object.values(inline).reduce((sum, text) => sum + text.length, 0);
}

/** Puts a base in the place of a base and deltas that outweigh it, or that are too many. */
export async function rebase(core: Core): Promise<void> {
  const { ownership, mapBytes, map, numbers, env } = core;
  const { Base, Deltas, Inline } = ownership.manifest.Map;
  const weight = Deltas.reduce((sum, key) => sum + (mapBytes.get(key) ?? 0), 0);
  const base = Base === null ? 0 : (mapBytes.get(Base) ?? 0);
  const inlined = Object.keys(Inline).length;
  // A small base is cheaper than objects for the deltas that come.
  const isFull = base <= lightDeltas && inlined > 0 && inlineBytes(Inline) >= env.inlineBytes;
  const isEnough = Deltas.length - inlined <= mostDeltas && weight <= Math.max(base, lightDeltas);
  if (isEnough && !isFull) return;
  const version = numbers.map++;
  await replaceBase(core, await map.baseObject(version, () => env.pause()));
}

/** Has the manifest name a base alone, with what else changes in it; what it named before is garbage then. */
export async function replaceBase(
  core: Core,
  object: MapObject,
  change: () => Partial<Manifest> = () => ({}),
): Promise<void> {
  const { ownership, mapBytes, numbers, garbage, id } = core;
  const replaced = ownership.manifest;
  const { key, bytes } = await encodedObject(core, object);
  await putMapObject(core, key, bytes);
  mapBytes.set(key, bytes.length);
  const place = { Base: key, Deltas: [], Inline: {} };
  await ownership.swap({ BlockToObjectWALNum: numbers.map, Map: place, ...change() });
  for (const old of mapKeys(replaced)) {
    mapBytes.delete(old);
    if (old in replaced.Map.Inline) continue;
    if (old.startsWith(`${id}/`) && !isKept(core, old)) garbage.add(old);
  }
}
