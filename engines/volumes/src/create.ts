import { newId } from "@skep/base";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { VolumeKey } from "./keys.ts";
import { infoOf, isObjBlockSize, isVolumeSize, type Manifest } from "./manifest.ts";
import { newCommit, putManifest } from "./ownership.ts";
import { checkVolumeId } from "./paths.ts";
import { blockBytes, type CreateVolume, type VolumeInfo } from "./types.ts";
import { sizeWrong } from "./volume.ts";

const usualObjBlockBytes = 4 * 2 ** 20;

/** VOLUME_ID, VOLUME_SIZE, VOLUME_EXISTS, VOLUME_KEY. */
export async function createVolume(env: Environment, request: CreateVolume): Promise<VolumeInfo> {
  const { id = newId("vol", (bytes) => env.random(bytes)), sizeBytes, encrypted = false } = request;
  checkVolumeId(id);
  if (!isVolumeSize(sizeBytes)) throw sizeWrong(sizeBytes);
  const objBlockBytes = request.objBlockBytes ?? usualObjBlockBytes;
  if (!isObjBlockSize(objBlockBytes)) throw sizeWrong(objBlockBytes);
  const { limits } = request;
  const manifest: Manifest = {
    VolumeName: id,
    VolumeSize: sizeBytes,
    BlockSize: blockBytes,
    ObjBlockSize: objBlockBytes,
    SeqNum: 0,
    ObjectNum: 0,
    WALNum: 0,
    BlockToObjectWALNum: 1,
    Version: 1,
    Epoch: 0,
    Owner: null,
    Commit: newCommit(env),
    Map: { Base: null, Deltas: [], Inline: {} },
    Snapshots: [],
    Source: null,
    Durability: request.durability ?? "local",
    Compression: request.compression ?? "none",
    Encryption: encrypted
      ? wrapped(
          env,
          VolumeKey.random((bytes) => env.random(bytes)),
          id,
        )
      : null,
    Limits: { Iops: limits?.iops ?? null, BytesPerSecond: limits?.bytesPerSecond ?? null },
    CreatedAt: env.clock.now(),
  };
  if ((await putManifest(env, manifest, null)) === undefined) throw fail("VOLUME_EXISTS", { id });
  return infoOf(manifest);
}

/** VOLUME_KEY. */
export function wrapped(env: Environment, key: VolumeKey, id: string): Manifest["Encryption"] {
  if (env.keys === undefined) throw fail("VOLUME_KEY", { id, why: "there is no key to wrap it with" });
  return { Algorithm: "AES-256-GCM", WrappedKey: env.keys.wrap(key.bytes, id) };
}
