import { fail } from "../errors.ts";
import type { IndexedVersion } from "../index/queries.ts";
import { encodeId, type PartRow, type UploadRow } from "../index/rows.ts";
import type { PartInfo } from "../types.ts";
import type { OperationOf } from "./operations.ts";
import { bucketOrFail, checkCondition, type Plan, type Planning } from "./plan.ts";
import { planVersion } from "./plan-versions.ts";

export function planCreateUpload(planning: Planning, operation: OperationOf<"createUpload">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const { key, owner, attributes, checksum } = operation;
  const row: UploadRow = {
    bucket: bucket.id,
    key,
    sequence: planning.sequence,
    id: encodeId(planning.sequence, planning.random(18)),
    owner,
    initiatedAt: planning.now,
    ...(attributes === undefined ? {} : { attributes }),
    ...(checksum === undefined ? {} : { checksum }),
  };
  return { mutations: [{ put: "upload", row }], result: row };
}

function uploadOrFail(planning: Planning, bucket: number, key: string, id: string): UploadRow {
  const upload = planning.queries.upload(bucket, key, id);
  if (upload === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
  return upload;
}

export function planPutPart(planning: Planning, operation: OperationOf<"putPart">): Plan {
  const { bucket, key, id, number, sizeBytes, etag, checksum, blob } = operation;
  bucketOrFail(planning, bucket);
  const upload = uploadOrFail(planning, bucket, key, id).sequence;
  const replaced = planning.queries.part(upload, number);
  const row: PartRow = {
    upload,
    number,
    sizeBytes,
    etag,
    modifiedAt: planning.now,
    ...(checksum === undefined ? {} : { checksum }),
    blob,
  };
  return {
    mutations: [{ put: "part", row }],
    removedBlobs: replaced === undefined ? [] : [replaced.blob],
    result: partInfo(row),
  };
}

export function partInfo(row: PartRow): PartInfo {
  const { number, sizeBytes, etag, modifiedAt, checksum } = row;
  return { number, sizeBytes, etag, modifiedAt, ...(checksum === undefined ? {} : { checksum }) };
}

/** The parts stay where they are and become the version's; those not named go. */
export function planComplete(planning: Planning, operation: OperationOf<"completeUpload">): Plan {
  const bucket = bucketOrFail(planning, operation.bucket);
  const { key, id, sizeBytes, etag, attributes } = operation;
  const { queries } = planning;
  const upload = queries.upload(bucket.id, key, id);
  if (upload === undefined) {
    const before = queries.completed(bucket.id, key, id);
    if (before === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
    return { mutations: [], result: before };
  }
  const chosen = new Map(operation.parts.map((part) => [part.number, part.blob]));
  const unused = queries.parts(upload.sequence).filter((part) => {
    const known = chosen.get(part.number);
    if (known === part.blob) chosen.delete(part.number);
    return known === undefined;
  });
  if (chosen.size > 0) return { mutations: [], result: "stale" };
  const latest = queries.latest(bucket.id, key);
  checkCondition(operation.condition, latest, bucket.name, key);
  const plan = planVersion(planning, bucket, latest, undefined, {
    key,
    sizeBytes,
    etag,
    owner: upload.owner,
    upload: { id, sequence: upload.sequence },
    ...(attributes === undefined ? {} : { attributes }),
  });
  const numbers = operation.parts.map((part) => part.number);
  return {
    mutations: [
      ...(unused.length === 0 ? [] : [{ remove: "parts" as const, upload: upload.sequence, but: numbers }]),
      { remove: "upload", bucket: bucket.id, key, sequence: upload.sequence },
      ...plan.mutations,
    ],
    removedBlobs: [...unused.map((part) => part.blob), ...(plan.removedBlobs ?? [])],
    result: plan.result as IndexedVersion,
  };
}

export function planAbort(planning: Planning, operation: OperationOf<"abortUpload">): Plan {
  const { bucket, key, id } = operation;
  bucketOrFail(planning, bucket);
  const { sequence } = uploadOrFail(planning, bucket, key, id);
  return {
    mutations: [
      { remove: "parts", upload: sequence },
      { remove: "upload", bucket, key, sequence },
    ],
    removedBlobs: planning.queries.parts(sequence).map((part) => part.blob),
    result: undefined,
  };
}
