import { newId } from "@skep/base";
import { wrapped } from "./create.ts";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { infoOf, isVolumeSize, type Manifest } from "./manifest.ts";
import { codeOf } from "./objects.ts";
import { presentSnapshot, volumeKey } from "./open.ts";
import { newCommit, putManifest } from "./ownership.ts";
import { checkVolumeId, manifestKey } from "./paths.ts";
import { readSnapshot } from "./snapshots.ts";
import type { CreateVolume, VolumeInfo } from "./types.ts";
import { sizeWrong } from "./volume.ts";

/** Costs a manifest, whatever the snapshot holds. SNAPSHOT_NOT_FOUND, VOLUME_SHRINK, VOLUME_EXISTS, VOLUME_KEY. */
export async function cloneSnapshot(
  env: Environment,
  source: { volume: string; snapshot: string },
  request: Omit<CreateVolume, "sizeBytes" | "encrypted"> & { sizeBytes?: number },
): Promise<VolumeInfo> {
  const { id = newId("vol", (bytes) => env.random(bytes)) } = request;
  checkVolumeId(id);
  checkVolumeId(source.volume);
  const frozen = await frozenManifest(env, source);
  const { sizeBytes = frozen.VolumeSize, limits } = request;
  if (!isVolumeSize(sizeBytes)) throw sizeWrong(sizeBytes);
  if (sizeBytes < frozen.VolumeSize) {
    throw fail("VOLUME_SHRINK", { id: source.snapshot, sizeBytes: frozen.VolumeSize });
  }
  const key = volumeKey(env, frozen, source.volume);
  const manifest: Manifest = {
    ...frozen,
    VolumeName: id,
    VolumeSize: sizeBytes,
    WALNum: 0,
    SeqNum: 0,
    ObjectNum: 0,
    Epoch: 0,
    Owner: null,
    Commit: newCommit(env),
    Snapshots: [],
    Source: { Volume: source.volume, Snapshot: source.snapshot },
    Durability: request.durability ?? frozen.Durability,
    Compression: request.compression ?? frozen.Compression,
    Encryption: key === null ? null : wrapped(env, key, id),
    Limits: { Iops: limits?.iops ?? null, BytesPerSecond: limits?.bytesPerSecond ?? null },
    CreatedAt: env.clock.now(),
  };
  if ((await putManifest(env, manifest, null)) === undefined) throw fail("VOLUME_EXISTS", { id });
  // Whoever removes the snapshot has marked it before looking for clones (snapshots.ts).
  try {
    await presentSnapshot(env, source);
  } catch (error) {
    await env.store.delete(manifestKey(id));
    throw error;
  }
  return infoOf(manifest);
}

/** SNAPSHOT_NOT_FOUND also where it is removed at this moment. */
async function frozenManifest(
  env: Environment,
  source: { volume: string; snapshot: string },
): Promise<Manifest> {
  await presentSnapshot(env, source);
  try {
    return await readSnapshot(env, source.volume, source.snapshot);
  } catch (error) {
    if (codeOf(error) === "VOLUME_DAMAGED") await presentSnapshot(env, source);
    throw error;
  }
}
