import type { ObjectStore } from "@skep/objects";
import type { VolumeContext } from "./context.ts";
import { fail } from "../errors.ts";
import { openBytes, sealBytes, type VolumeKey } from "../keys.ts";
import type { Manifest } from "./manifest.ts";
import {
  decodeMapObject,
  encodeMapObject,
  type MapCodec,
  MapDamaged,
  type MapObject,
  maxBodyBytes,
} from "../map/codec.ts";
import { DurableMap } from "../map/durable-map.ts";
import { getWhole, isMissing } from "./store-access.ts";
import { blockBytes } from "../types.ts";

/** Map objects that are fetched before they are needed. */
const ahead = 8;

/** Each map object has a key of its own, so that one nonce is enough. */
function codecOf(context: VolumeContext, key: VolumeKey | null, objectKey: string): MapCodec {
  const { compress, decompress, pause } = context;
  if (key === null) return { compress, decompress, pause };
  const secret = key.mapKey(objectKey);
  return {
    compress,
    decompress,
    pause,
    seal: (bytes, header) => sealBytes(secret, 0, bytes, header),
    open(bytes, header) {
      const opened = openBytes(secret, 0, bytes, header);
      if (opened === undefined) throw new Error("the volume's key does not open it");
      return opened;
    },
  };
}

export function encodeMap(
  context: VolumeContext,
  key: VolumeKey | null,
  objectKey: string,
  object: MapObject,
): Promise<Uint8Array> {
  return encodeMapObject(object, codecOf(context, key, objectKey));
}

/** The map that a manifest says, its own or a snapshot's. VOLUME_DAMAGED names the object. */
export async function loadMap(
  context: VolumeContext,
  manifest: Manifest,
  key: VolumeKey | null,
  signal?: AbortSignal,
): Promise<DurableMap> {
  const id = manifest.VolumeName;
  const { Base, Deltas } = manifest.Map;
  const keys = Base === null ? Deltas : [Base, ...Deltas];
  let current = "";
  async function* objects(): AsyncGenerator<MapObject> {
    const fetching: Promise<Uint8Array>[] = [];
    for (let i = 0; i < keys.length; i += 1) {
      while (fetching.length < Math.min(keys.length, i + ahead)) {
        const fetched = fetchMap(context.store, keys[fetching.length] as string, id, signal);
        fetched.catch(() => undefined);
        fetching.push(fetched);
      }
      current = keys[i] as string;
      const bytes = await (fetching[i] as Promise<Uint8Array>);
      fetching[i] = Promise.resolve(new Uint8Array());
      yield await decodeMapObject(bytes, codecOf(context, key, current));
    }
  }
  try {
    const blocks = manifest.VolumeSize / blockBytes;
    const map = await DurableMap.load({ volume: id, blocks, objects: objects(), pause: context.pause });
    if (map.version >= manifest.BlockToObjectWALNum) {
      throw new MapDamaged(`version ${map.version} is newer than the manifest`);
    }
    return map;
  } catch (error) {
    const isDamage = error instanceof MapDamaged || error instanceof RangeError;
    if (!isDamage) throw error;
    throw fail("VOLUME_DAMAGED", { id, object: current, why: error.message }, { cause: error });
  }
}

async function fetchMap(
  store: ObjectStore,
  key: string,
  id: string,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  try {
    return (await getWhole(store, key, maxBodyBytes + 1024, signal)).bytes;
  } catch (error) {
    if (!isMissing(error)) throw error;
    throw fail("VOLUME_DAMAGED", { id, object: key, why: "it is not there" }, { cause: error });
  }
}
