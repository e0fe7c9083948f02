import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { openBytes, sealBytes, type VolumeKey } from "./keys.ts";
import type { Manifest } from "./manifest.ts";
import { decodeMapObject, type MapCodec, MapDamaged, type MapObject, maxBodyBytes } from "./map/codec.ts";
import { DurableMap } from "./map/durable-map.ts";
import { codeOf, readObject } from "./objects.ts";
import { isDamage } from "./read.ts";
import { blockBytes } from "./types.ts";

const ahead = 8;
const mostTries = 6;
const firstPauseMs = 50;

/** How a volume's map object of that key is sealed. */
export function mapCodec(
  env: Pick<Environment, "pause">,
  key: VolumeKey | null,
  objectKey: string,
): MapCodec {
  const pause = () => env.pause();
  if (key === null) return { pause };
  const secret = key.mapKey(objectKey);
  return {
    pause,
    seal: (bytes, header) => sealBytes(secret, 0, bytes, header),
    open: (bytes, header) => {
      const opened = openBytes(secret, 0, bytes, header);
      if (opened === undefined) throw new RangeError("it was sealed with another key, or changed since");
      return opened;
    },
  };
}

/** The map of a manifest, and the sizes of its objects by key. VOLUME_DAMAGED. */
export async function loadMap(
  env: Pick<Environment, "store" | "pause" | "clock">,
  manifest: Pick<Manifest, "VolumeName" | "VolumeSize" | "Map" | "BlockToObjectWALNum">,
  key: VolumeKey | null,
  signal?: AbortSignal,
): Promise<{ map: DurableMap; bytes: Map<string, number> }> {
  const { Map: place, VolumeName: id } = manifest;
  const keys = place.Base === null ? place.Deltas : [place.Base, ...place.Deltas];
  const bytes = new Map<string, number>();
  let present = "";
  async function* objects(): AsyncGenerator<MapObject> {
    const coming: Promise<{ bytes: Buffer }>[] = [];
    for (const [index, objectKey] of keys.entries()) {
      for (let next = index + coming.length; next < keys.length && coming.length < ahead; next += 1) {
        const key = keys[next] as string;
        const inline = place.Inline[key];
        const fetched =
          inline === undefined
            ? fetchObject(env, key, signal)
            : Promise.resolve({ bytes: Buffer.from(inline, "base64") });
        fetched.catch(() => undefined);
        coming.push(fetched);
      }
      present = objectKey;
      const { bytes: found } = (await coming.shift()) as { bytes: Buffer };
      bytes.set(objectKey, found.length);
      yield await decodeMapObject(found, mapCodec(env, key, objectKey));
    }
  }
  const damaged = (why: string, cause?: unknown) =>
    fail("VOLUME_DAMAGED", { id, object: present, why }, { cause });
  try {
    const blocks = manifest.VolumeSize / blockBytes;
    const map = await DurableMap.load({ volume: id, blocks, objects: objects(), pause: () => env.pause() });
    if (map.version >= manifest.BlockToObjectWALNum) {
      throw new MapDamaged(
        `it has version ${map.version}, and the manifest counts on ${manifest.BlockToObjectWALNum}`,
      );
    }
    return { map, bytes };
  } catch (error) {
    if (error instanceof MapDamaged) throw damaged(error.why, error);
    const code = codeOf(error);
    if (code === "OBJECT_NOT_FOUND") throw damaged("it is not there", error);
    if (code === "OBJECT_DAMAGED") throw damaged((error as Error).message, error);
    throw error;
  }
}

/** A map has up to some dozens of objects: a store that fails now and then must not keep it from being loaded. */
async function fetchObject(
  { store, clock }: Pick<Environment, "store" | "clock">,
  key: string,
  signal: AbortSignal | undefined,
): Promise<{ bytes: Buffer }> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await readObject(store, key, { maxBytes: maxBodyBytes + 4096, signal });
    } catch (error) {
      signal?.throwIfAborted();
      if (tries === mostTries || isDamage(error)) throw error;
    }
    await clock.sleep(firstPauseMs * 2 ** tries, signal);
  }
}
