import { fail } from "../errors.ts";
import { checkKey } from "../keys.ts";
import type { FoundVersion, Page } from "../read/queries.ts";
import type {
  Attributes,
  Bytes,
  Condition,
  DeleteResult,
  ListRequest,
  ObjectVersion,
  OpenVersion,
  VersionListing,
  VersionListRequest,
  VersionPut,
} from "../types.ts";
import { listedInfo, piecesOf, StoredVersion, versionInfo } from "../versions.ts";
import { given, givenAttributes, type StoreCore } from "./core.ts";

export async function putObject(
  core: StoreCore,
  bucket: string,
  key: string,
  body: Uint8Array | Bytes,
  request: VersionPut,
): Promise<ObjectVersion> {
  const { owner, condition, sizeBytes: declared, signal } = request;
  const { id } = core.bucket(bucket);
  const name = checkKey(key);
  const row = await core.storeBody(body, { key, declared, signal }, (content, { md5, sizeBytes }) =>
    core.commit(bucket, {
      kind: "put",
      bucket: id,
      key: name,
      owner,
      sizeBytes,
      etag: md5,
      ...content,
      ...givenAttributes({ ...request.attributes, ...request.verify?.({ md5, sizeBytes }) }),
      ...given("condition", condition),
    }),
  );
  return versionInfo(row);
}

export async function headObject(
  core: StoreCore,
  bucket: string,
  key: string,
  versionId: string | undefined,
): Promise<ObjectVersion> {
  const { version, parts } = await find(core, bucket, key, versionId, false);
  return versionInfo(version, parts);
}

export async function openObject(
  core: StoreCore,
  bucket: string,
  key: string,
  versionId: string | undefined,
): Promise<OpenVersion> {
  const found = await core.lifetimes.lookUp(
    () => find(core, bucket, key, versionId, true),
    (version) => piecesOf(version).map(({ blob }) => blob),
  );
  const { files, paths, lifetimes } = core;
  return new StoredVersion(found, { bucket, files, paths, lifetimes });
}

async function find(
  core: StoreCore,
  bucket: string,
  key: string,
  versionId: string | undefined,
  bytes: boolean,
): Promise<FoundVersion> {
  const found = await core.backend.read({
    kind: "version",
    bucket: core.bucket(bucket).id,
    key: key.toWellFormed(),
    bytes,
    ...given("versionId", versionId),
  });
  if (found !== undefined) return found;
  if (versionId === undefined) throw fail("OBJECT_NOT_FOUND", { bucket, key });
  throw fail("VERSION_NOT_FOUND", { bucket, key, versionId });
}

export async function setAttributes(
  core: StoreCore,
  bucket: string,
  key: string,
  versionId: string | undefined,
  change: Pick<Attributes, "tags" | "acl">,
): Promise<ObjectVersion> {
  const row = await core.commit(bucket, {
    kind: "setAttributes",
    bucket: core.bucket(bucket).id,
    key: key.toWellFormed(),
    change,
    ...given("versionId", versionId),
  });
  return versionInfo(row);
}

export async function deleteObject(
  core: StoreCore,
  bucket: string,
  key: string,
  request: { owner: string; versionId?: string; condition?: Condition },
): Promise<DeleteResult> {
  return core.commit(bucket, {
    kind: "delete",
    bucket: core.bucket(bucket).id,
    key: checkKey(key),
    owner: request.owner,
    ...given("versionId", request.versionId),
    ...given("condition", request.condition),
  });
}

export async function listObjects(
  core: StoreCore,
  bucket: string,
  { signal, ...request }: ListRequest,
): Promise<{ objects: ObjectVersion[]; prefixes: string[]; next?: string }> {
  signal?.throwIfAborted();
  const { rows, prefixes, next } = await core.backend.read({
    kind: "list",
    bucket: core.bucket(bucket).id,
    request,
  });
  return { objects: rows.map(listedInfo), prefixes, ...given("next", next?.key) };
}

export async function listVersions(
  core: StoreCore,
  bucket: string,
  request: VersionListRequest,
): Promise<VersionListing> {
  const page = await core.backend.read({ kind: "versions", bucket: core.bucket(bucket).id, request });
  return {
    versions: page.rows.map((row) => versionInfo(row)),
    prefixes: page.prefixes,
    ...nextKey(page),
    ...given("nextVersionMarker", page.next?.id),
  };
}

export function nextKey({ next }: Page<unknown>): { truncated: boolean; nextKeyMarker?: string } {
  return { truncated: next !== undefined, ...given("nextKeyMarker", next?.key) };
}
