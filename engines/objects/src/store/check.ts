import { isErrno } from "@skep/base";
import { BlobDamage, checkBlob } from "../blobs/read.ts";
import { isInline } from "../commit/plan-versions.ts";
import type { IndexedVersion } from "../index/queries.ts";
import type { BucketRow, PartRow, UploadRow } from "../index/rows.ts";
import { segmentNumber } from "../paths.ts";
import { orphans } from "../sweep.ts";
import type { StoreCore } from "./core.ts";

/** Something wrong in a store; `why` is for people. */
export type Finding =
  | { kind: "object"; bucket: string; key: string; versionId: string; why: string }
  | { kind: "part"; bucket: string; key: string; uploadId: string; number: number; why: string }
  | { kind: "journal"; path: string; position: number; bytes: number; why: string }
  /** A file that no object has; `sweep` removes it. */
  | { kind: "orphan"; path: string; why: string };

export interface CheckOptions {
  /** Reads every byte; without it only what says where the bytes are. */
  deep?: boolean;
  signal?: AbortSignal;
}

/** Rows looked at in one go, so that others' look-ups wait no longer. */
const pageRows = 200;

/** Looks for damage while the store is in use. */
export async function* checkStore(core: StoreCore, options: CheckOptions): AsyncGenerator<Finding> {
  for (const bucket of [...core.buckets.values()]) {
    yield* checkVersions(core, bucket, options);
    yield* checkUploads(core, bucket, options);
  }
  if (options.deep === true) yield* checkJournal(core, options);
  const { files, paths, lifetimes } = core;
  const unknown = orphans(
    {
      files,
      paths,
      isKnown: (name) => lifetimes.isKnown(name),
      inIndex: (names) => core.backend.read({ kind: "knownBlobs", names }),
    },
    options.signal,
  );
  for await (const name of unknown) {
    yield { kind: "orphan", path: paths.blob(name), why: "nothing points to it" };
  }
}

async function* checkVersions(
  core: StoreCore,
  bucket: BucketRow,
  options: CheckOptions,
): AsyncGenerator<Finding> {
  let marker: { keyMarker?: string; versionMarker?: string } = {};
  for (;;) {
    options.signal?.throwIfAborted();
    const request = { ...marker, limit: pageRows };
    const page = await core.backend.read({ kind: "versions", bucket: bucket.id, request });
    const records = await checkRecordsOf(core, page.rows);
    for (const [i, version] of page.rows.entries()) {
      const why = records[i] ?? (await checkBlobs(core, version, options));
      // What was removed or moved meanwhile is no damage.
      if (why === undefined || !(await isStill(core, version))) continue;
      const { key, versionId } = version;
      yield { kind: "object", bucket: bucket.name, key, versionId, why };
    }
    if (page.next === undefined) return;
    marker = { keyMarker: page.next.key, versionMarker: page.next.id ?? "" };
  }
}

function checkRecordsOf(core: StoreCore, versions: readonly IndexedVersion[]) {
  const places = versions.map((version) => ({ ...version, isInline: isInline(version) }));
  return core.backend.read({ kind: "checkRecords", places });
}

async function isStill(core: StoreCore, { bucket, key, versionId, segment, position }: IndexedVersion) {
  const found = await core.backend.read({ kind: "version", bucket, key, versionId, bytes: false });
  return found?.version.segment === segment && found.version.position === position;
}

async function checkBlobs(
  core: StoreCore,
  version: IndexedVersion,
  options: CheckOptions,
): Promise<string | undefined> {
  const { blob, sizeBytes, upload } = version;
  if (blob !== undefined) return checkOne(core, blob, sizeBytes, options);
  if (upload === undefined) return undefined;
  const parts = await core.backend.read({ kind: "parts", upload: upload.sequence, after: 0, limit: -1 });
  const total = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
  if (total !== sizeBytes) return "not all of its parts are there";
  for (const part of parts) {
    const why = await checkOne(core, part.blob, part.sizeBytes, options);
    if (why !== undefined) return `part ${part.number}: ${why}`;
  }
  return undefined;
}

async function checkOne(
  { files, paths }: StoreCore,
  blob: string,
  sizeBytes: number,
  { deep = false, signal }: CheckOptions,
): Promise<string | undefined> {
  try {
    await checkBlob(files, paths.blob(blob), sizeBytes, deep, signal);
    return undefined;
  } catch (error) {
    if (error instanceof BlobDamage || isErrno(error, "EIO")) return (error as Error).message;
    throw error;
  }
}

async function* checkUploads(
  core: StoreCore,
  bucket: BucketRow,
  options: CheckOptions,
): AsyncGenerator<Finding> {
  let marker: { keyMarker?: string; uploadMarker?: string } = {};
  for (;;) {
    const request = { ...marker, limit: pageRows };
    const page = await core.backend.read({ kind: "uploads", bucket: bucket.id, request });
    for (const upload of page.rows) yield* checkParts(core, bucket, upload, options);
    if (page.next === undefined) return;
    marker = { keyMarker: page.next.key, uploadMarker: page.next.id ?? "" };
  }
}

async function* checkParts(
  core: StoreCore,
  bucket: BucketRow,
  { key, id, sequence }: UploadRow,
  options: CheckOptions,
): AsyncGenerator<Finding> {
  const parts = (): Promise<PartRow[]> =>
    core.backend.read({ kind: "parts", upload: sequence, after: 0, limit: -1 });
  for (const { number, blob, sizeBytes } of await parts()) {
    const why = await checkOne(core, blob, sizeBytes, options);
    if (why === undefined || !(await parts()).some((part) => part.blob === blob)) continue;
    yield { kind: "part", bucket: bucket.name, key, uploadId: id, number, why };
  }
}

async function* checkJournal(core: StoreCore, options: CheckOptions): AsyncGenerator<Finding> {
  const { files, paths } = core;
  for (const name of await files.readdir(paths.journal)) {
    options.signal?.throwIfAborted();
    const segment = segmentNumber(name);
    if (segment === undefined) continue;
    for (const { position, bytes } of await core.backend.read({ kind: "checkSegment", segment })) {
      const why = "these bytes are not what was written";
      yield { kind: "journal", path: paths.segment(segment), position, bytes, why };
    }
  }
}
