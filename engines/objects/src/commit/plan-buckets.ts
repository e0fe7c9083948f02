import { fail } from "../errors.ts";
import type { BucketRow, Mutation } from "../index/rows.ts";
import type { Json } from "../types.ts";
import type { OperationOf } from "./operations.ts";
import { bucketOrFail, type Plan, type Planning } from "./plan.ts";

export function planCreateBucket(planning: Planning, operation: OperationOf<"createBucket">): Plan {
  const { name, owner, settings } = operation;
  for (const bucket of planning.buckets.values()) {
    if (bucket.name === name) {
      throw Object.assign(fail("BUCKET_EXISTS", { bucket: name }), { details: { owner: bucket.owner } });
    }
  }
  const row: BucketRow = {
    id: planning.sequence,
    name,
    createdAt: planning.now,
    owner,
    versioning: "off",
    settings,
  };
  return { mutations: [{ put: "bucket", row }], result: row };
}

export function planUpdateBucket(planning: Planning, operation: OperationOf<"updateBucket">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const settings: Record<string, Json> = { ...bucket.settings };
  for (const [name, value] of Object.entries(operation.settings ?? {})) {
    if (value === undefined) delete settings[name];
    else settings[name] = value;
  }
  const row: BucketRow = { ...bucket, versioning: operation.versioning ?? bucket.versioning, settings };
  return { mutations: [{ put: "bucket", row }], result: row };
}

export function planDeleteBucket(planning: Planning, operation: OperationOf<"deleteBucket">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  if (planning.queries.hasVersions(bucket.id)) throw fail("BUCKET_NOT_EMPTY", { bucket: bucket.name });
  const mutations: Mutation[] = [];
  const removedBlobs: string[] = [];
  for (const { key, sequence } of planning.queries.uploadsOf(bucket.id)) {
    removedBlobs.push(...planning.queries.parts(sequence).map((part) => part.blob));
    mutations.push(
      { remove: "parts", upload: sequence },
      { remove: "upload", bucket: bucket.id, key, sequence },
    );
  }
  mutations.push({ remove: "bucket", id: bucket.id });
  return { mutations, removedBlobs, result: undefined };
}
