import { fail } from "../errors.ts";
import type { IndexedVersion } from "../index/queries.ts";
import { type BucketRow, encodeId, type Mutation, nullVersion, type VersionRow } from "../index/rows.ts";
import type { Attributes, DeleteResult } from "../types.ts";
import type { OperationOf } from "./operations.ts";
import { blobsOf, bucketOrFail, checkCondition, type Plan, type Planning, removalOf } from "./plan.ts";

export function planPut(planning: Planning, operation: OperationOf<"put">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const { key, owner, sizeBytes, etag, attributes, blob } = operation;
  const latest = planning.queries.latest(bucket.id, key);
  checkCondition(operation.condition, latest, bucket.name, key);
  return planVersion(planning, bucket, latest, operation.inline, {
    key,
    sizeBytes,
    etag,
    owner,
    ...(attributes === undefined ? {} : { attributes }),
    ...(blob === undefined ? {} : { blob }),
  });
}

/** A new latest version of a key; without versioning it takes the place of the null version. */
export function planVersion(
  planning: Planning,
  bucket: BucketRow,
  latest: IndexedVersion | undefined,
  inline: Uint8Array | undefined,
  content: Pick<VersionRow, "key" | "sizeBytes" | "etag" | "owner"> &
    Partial<Pick<VersionRow, "attributes" | "blob" | "upload" | "deleteMarker">>,
): Plan {
  const { sequence, queries } = planning;
  const versioned = bucket.versioning === "enabled";
  const row: VersionRow = {
    bucket: bucket.id,
    sequence,
    versionId: versioned ? encodeId(sequence, planning.random(18)) : nullVersion,
    modifiedAt: planning.now,
    ...content,
  };
  const replaced =
    versioned || latest === undefined ? undefined : queries.version(bucket.id, content.key, nullVersion);
  return {
    mutations: [...(replaced === undefined ? [] : removalOf(replaced)), { put: "version", row }],
    ...(inline === undefined ? {} : { inline }),
    ...(replaced === undefined ? {} : { removedBlobs: blobsOf(queries, replaced) }),
    result: { ...row, isLatest: true },
  };
}

export function planDelete(planning: Planning, operation: OperationOf<"delete">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const { key, versionId, owner, condition } = operation;
  const { queries } = planning;
  if (versionId !== undefined) {
    const version = queries.version(bucket.id, key, versionId);
    checkCondition(condition, version, bucket.name, key);
    return version === undefined
      ? nothing({ deleteMarker: false, versionId })
      : removeVersion(planning, version);
  }
  const latest = queries.latest(bucket.id, key);
  checkCondition(condition, latest, bucket.name, key);
  if (bucket.versioning === "off") {
    if (latest === undefined) return nothing({ deleteMarker: false });
    return { ...removeVersion(planning, latest), result: { deleteMarker: false } satisfies DeleteResult };
  }
  const plan = planVersion(planning, bucket, latest, undefined, {
    key,
    sizeBytes: 0,
    etag: "",
    owner,
    deleteMarker: true,
  });
  const marker = plan.result as IndexedVersion;
  return { ...plan, result: { deleteMarker: true, versionId: marker.versionId } satisfies DeleteResult };
}

function nothing(result: DeleteResult): Plan {
  return { mutations: [], result };
}

function removeVersion(planning: Planning, version: IndexedVersion): Plan {
  return {
    mutations: removalOf(version),
    removedBlobs: blobsOf(planning.queries, version),
    result: {
      deleteMarker: version.deleteMarker === true,
      versionId: version.versionId,
    } satisfies DeleteResult,
  };
}

export function planSetAttributes(planning: Planning, operation: OperationOf<"setAttributes">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const { key, versionId, change } = operation;
  const version =
    versionId === undefined
      ? planning.queries.latest(bucket.id, key)
      : planning.queries.version(bucket.id, key, versionId);
  if (version === undefined) {
    throw versionId === undefined
      ? fail("OBJECT_NOT_FOUND", { bucket: bucket.name, key })
      : fail("VERSION_NOT_FOUND", { bucket: bucket.name, key, versionId });
  }
  const attributes = changed(version.attributes ?? {}, change);
  const { isLatest, segment, position, inlineAt, inlineCrc, ...old } = version;
  const row: VersionRow = { ...old, attributes };
  const mutations: Mutation[] = [{ put: "version", row }];
  const inline = isInline(version) ? { inline: planning.readInline(version) } : {};
  return { mutations, ...inline, result: { ...row, isLatest } };
}

function changed(attributes: Attributes, change: Pick<Attributes, "tags" | "acl">): Attributes {
  const result: Attributes = { ...attributes };
  for (const name of ["tags", "acl"] as const) {
    if (!(name in change)) continue;
    if (change[name] === undefined) delete result[name];
    else Object.assign(result, { [name]: change[name] });
  }
  return result;
}

/** Whether a version's bytes are in the record of its row. */
export function isInline(version: VersionRow): boolean {
  return version.blob === undefined && version.upload === undefined && version.deleteMarker !== true;
}
