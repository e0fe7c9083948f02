import { fail } from "../errors.ts";
import { bucketOf } from "../index/rows.ts";
import type { Bucket, Json, Usage, Versioning } from "../types.ts";
import type { StoreCore } from "./core.ts";

export async function createBucket(
  core: StoreCore,
  name: string,
  bucket: { owner: string; settings?: Record<string, Json> },
): Promise<Bucket> {
  const { owner, settings = {} } = bucket;
  const row = await core.commit(name, { kind: "createBucket", name, owner, settings });
  core.buckets.set(name, row);
  return bucketOf(row);
}

export function listBuckets(
  core: StoreCore,
  request: { owner?: string; prefix?: string; after?: string; limit?: number },
): Bucket[] {
  const { owner, prefix = "", after, limit } = request;
  return [...core.buckets.values()]
    .filter((row) => row.name.startsWith(prefix))
    .filter((row) => owner === undefined || row.owner === owner)
    .filter((row) => after === undefined || row.name > after)
    .sort((one, other) => (one.name < other.name ? -1 : 1))
    .slice(0, limit)
    .map(bucketOf);
}

export async function updateBucket(
  core: StoreCore,
  name: string,
  change: { versioning?: Versioning; settings?: Record<string, Json | undefined> },
): Promise<Bucket> {
  const row = await core.commit(name, { kind: "updateBucket", bucket: core.bucket(name).id, ...change });
  core.buckets.set(name, row);
  return bucketOf(row);
}

export async function deleteBucket(core: StoreCore, name: string): Promise<void> {
  const { id } = core.bucket(name);
  await core.commit(name, { kind: "deleteBucket", bucket: id });
  // Another of that name may have been made meanwhile.
  if (core.buckets.get(name)?.id === id) core.buckets.delete(name);
}

export async function usageOf(core: StoreCore, bucket: string): Promise<Usage> {
  const usage = await core.backend.read({ kind: "usage", bucket: core.bucket(bucket).id });
  if (usage === undefined) throw fail("BUCKET_NOT_FOUND", { bucket });
  return usage;
}
