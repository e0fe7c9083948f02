import { createHash } from "node:crypto";
import { partInfo } from "../commit/plan-uploads.ts";
import { fail } from "../errors.ts";
import type { PartRow, UploadRow } from "../index/rows.ts";
import { checkKey } from "../keys.ts";
import type { UploadListRequest } from "../read/queries.ts";
import type {
  Attributes,
  Bytes,
  CompletedPart,
  Condition,
  ObjectVersion,
  PartInfo,
  Upload,
  UploadListing,
  VersionPut,
} from "../types.ts";
import { versionInfo } from "../versions.ts";
import { given, givenAttributes, type StoreCore } from "./core.ts";
import { nextKey } from "./objects.ts";

const lastPartNumber = 10_000;

export async function createUpload(
  core: StoreCore,
  bucket: string,
  key: string,
  upload: { owner: string; attributes?: Attributes; checksum?: Upload["checksum"] },
): Promise<Upload> {
  const row = await core.commit(bucket, {
    kind: "createUpload",
    bucket: core.bucket(bucket).id,
    key: checkKey(key),
    owner: upload.owner,
    ...given("attributes", upload.attributes),
    ...given("checksum", upload.checksum),
  });
  return uploadInfo(bucket, row);
}

export async function findUpload(
  core: StoreCore,
  bucket: string,
  key: string,
  id: string,
): Promise<UploadRow> {
  const query = { bucket: core.bucket(bucket).id, key: key.toWellFormed(), id };
  const row = await core.backend.read({ kind: "upload", ...query });
  if (row === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
  return row;
}

export function uploadInfo(bucket: string, row: UploadRow): Upload {
  const { id, key, owner, initiatedAt, attributes = {}, checksum } = row;
  return { id, bucket, key, owner, initiatedAt, attributes, ...given("checksum", checksum) };
}

/** A part is a blob, however small: the version made of it then needs no copy. */
export async function putPart(
  core: StoreCore,
  bucket: string,
  key: string,
  id: string,
  number: number,
  body: Uint8Array | Bytes,
  request: Pick<VersionPut, "sizeBytes" | "signal"> & {
    verify?(body: { md5: string; sizeBytes: number }): { checksum?: string } | undefined;
  },
): Promise<PartInfo> {
  if (!Number.isInteger(number) || number < 1 || number > lastPartNumber) {
    throw fail("PART_INVALID", { number, id });
  }
  const upload = await findUpload(core, bucket, key, id);
  const check = { key, declared: request.sizeBytes, signal: request.signal };
  return core.storeBlob(body, check, (blob, { md5, sizeBytes }) =>
    core.commit(bucket, {
      kind: "putPart",
      bucket: upload.bucket,
      key: upload.key,
      id,
      number,
      sizeBytes,
      etag: md5,
      blob,
      ...given("checksum", request.verify?.({ md5, sizeBytes })?.checksum),
    }),
  );
}

export async function listParts(
  core: StoreCore,
  bucket: string,
  key: string,
  id: string,
  request: { after?: number; limit?: number },
): Promise<{ parts: PartInfo[]; next?: number }> {
  const { sequence } = await findUpload(core, bucket, key, id);
  const { after = 0, limit = 1000 } = request;
  if (limit <= 0) return { parts: [] };
  const rows = await core.backend.read({ kind: "parts", upload: sequence, after, limit: limit + 1 });
  const parts = rows.slice(0, limit).map(partInfo);
  return { parts, ...given("next", rows.length > limit ? parts.at(-1)?.number : undefined) };
}

export async function completeUpload(
  core: StoreCore,
  bucket: string,
  key: string,
  id: string,
  parts: CompletedPart[],
  request: {
    condition?: Condition;
    finish?(parts: PartInfo[], upload: Upload): Partial<Attributes> | undefined;
  },
): Promise<ObjectVersion> {
  const where = { bucket: core.bucket(bucket).id, key: key.toWellFormed(), id };
  for (;;) {
    const upload = await core.backend.read({ kind: "upload", ...where });
    if (upload === undefined) {
      const before = await core.backend.read({ kind: "completed", ...where });
      if (before === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
      return versionInfo(before.version, before.parts);
    }
    const present = await core.backend.read({ kind: "parts", upload: upload.sequence, after: 0, limit: -1 });
    const chosen = checkParts(id, present, parts, core.minimumPartBytes);
    const finished = request.finish?.(chosen.map(partInfo), uploadInfo(bucket, upload));
    const row = await core.commit(bucket, {
      kind: "completeUpload",
      ...where,
      parts: chosen.map(({ number, blob }) => ({ number, blob })),
      sizeBytes: chosen.reduce((sum, part) => sum + part.sizeBytes, 0),
      etag: completedEtag(chosen),
      ...givenAttributes({ ...upload.attributes, ...finished }),
      ...given("condition", request.condition),
    });
    // A part was replaced since it was read: what it is now decides.
    if (row !== "stale") return versionInfo(row, chosen);
  }
}

export async function abortUpload(core: StoreCore, bucket: string, key: string, id: string): Promise<void> {
  const where = { bucket: core.bucket(bucket).id, key: key.toWellFormed(), id };
  await core.commit(bucket, { kind: "abortUpload", ...where });
}

export async function listUploads(
  core: StoreCore,
  bucket: string,
  request: UploadListRequest,
): Promise<UploadListing> {
  const page = await core.backend.read({ kind: "uploads", bucket: core.bucket(bucket).id, request });
  return {
    uploads: page.rows.map((row) => uploadInfo(bucket, row)),
    prefixes: page.prefixes,
    ...nextKey(page),
    ...given("nextUploadMarker", page.next?.id),
  };
}

/** The parts that were asked for, as they are stored. PART_ORDER, PART_INVALID, PART_TOO_SMALL. */
export function checkParts(
  id: string,
  present: readonly PartRow[],
  wanted: readonly CompletedPart[],
  minimumPartBytes: number,
): PartRow[] {
  if (wanted.length === 0) throw fail("PART_INVALID", { number: 1, id });
  for (const [i, { number }] of wanted.entries()) {
    if (i > 0 && number <= (wanted[i - 1] as CompletedPart).number) throw fail("PART_ORDER", { id });
  }
  const byNumber = new Map(present.map((part) => [part.number, part]));
  const chosen = wanted.map(({ number, etag, checksum }) => {
    const part = byNumber.get(number);
    const isSame = part !== undefined && part.etag === etag;
    if (!isSame || (checksum !== undefined && part.checksum !== checksum)) {
      throw fail("PART_INVALID", { number, id });
    }
    return part;
  });
  const small = chosen.slice(0, -1).find((part) => part.sizeBytes < minimumPartBytes);
  if (small !== undefined) {
    const { number, sizeBytes } = small;
    throw fail("PART_TOO_SMALL", { number, id, sizeBytes, minimum: minimumPartBytes });
  }
  return chosen;
}

/** The MD5 of the parts' MD5s, and how many they are. */
function completedEtag(parts: readonly PartRow[]): string {
  const digest = createHash("md5");
  for (const { etag } of parts) digest.update(etag, "hex");
  return `${digest.digest("hex")}-${parts.length}`;
}
