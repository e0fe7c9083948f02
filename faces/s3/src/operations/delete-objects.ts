import { isDeepStrictEqual } from "node:util";
import { SkepError } from "@skep/base";
import type { Condition, DeleteResult } from "@skep/objects";
import { bareETag, deleteCondition, demandedSize, demandedTime } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { fail, toS3Error } from "../errors.ts";
import { versionHeader } from "../object-headers.ts";
import { checkKey } from "../route.ts";
import { document, nest, tag, type XmlElement } from "../xml.ts";
import { versionIdOf } from "./existing.ts";

const maxObjects = 1000;
/** As many at a time as the store may commit at once. */
const concurrency = 64;

export async function deleteObject(request: S3Request): Promise<S3Response> {
  const versionId = versionIdOf(request);
  const condition = deleteCondition(request.headers);
  const result = await deleteTarget(request, {
    key: request.key,
    ...(versionId === undefined ? {} : { versionId }),
    ...(condition === undefined ? {} : { condition }),
  });
  return {
    status: 204,
    headers: {
      ...(result.deleteMarker ? { "x-amz-delete-marker": "true" } : {}),
      ...(result.versionId === undefined ? {} : versionHeader(request, result.versionId)),
    },
  };
}

interface Target {
  key: string;
  versionId?: string;
  condition?: Condition;
}

/** DeleteObjects: each key has its own permission and its own result. */
export async function deleteObjects(request: S3Request): Promise<S3Response> {
  const { bucket } = request;
  const isAnonymous = request.identity.account === undefined;
  // An unsigned body could be anything: nobody but those whom a policy lets delete is heard at all.
  if (!isAnonymous && request.headers["content-md5"] === undefined && !hasDigest(request)) {
    throw fail("InvalidRequest", { why: "Missing required header for this request: Content-MD5" });
  }
  const root = await request.xmlBody("Delete", 2 * 1024 ** 2);
  const objects = root.all("Object");
  if (objects.length === 0 || objects.length > maxObjects) throw fail("MalformedXML");
  const targets = objects.map(targetOf);
  const quiet = root.textOf("Quiet")?.trim() === "true";
  const results: string[] = new Array(targets.length);
  let next = 0;
  const work = async () => {
    for (let at = next++; at < targets.length; at = next++) {
      const target = targets[at]!;
      try {
        const action = target.versionId === undefined ? "s3:DeleteObject" : "s3:DeleteObjectVersion";
        request.authorize(action, { bucket, key: target.key });
        const result = await deleteTarget(request, target);
        results[at] = quiet ? "" : deletedXml(request, target, result);
      } catch (error) {
        results[at] = errorXml(target, error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, targets.length) }, work));
  return { body: document("DeleteResult", ...results) };
}

/** Whether something says what the body must be: S3 wants no list of deletions that was damaged on its way. */
function hasDigest({ headers }: S3Request): boolean {
  const sha256 = headers["x-amz-content-sha256"];
  if (typeof sha256 === "string" && /^[0-9a-f]{64}$|TRAILER$/i.test(sha256)) return true;
  return Object.keys(headers).some((name) => name.startsWith("x-amz-checksum-"));
}

function targetOf(element: XmlElement): Target {
  const key = element.textOf("Key");
  if (key === undefined || key === "") throw fail("MalformedXML");
  const versionId = element.textOf("VersionId");
  const etag = element.textOf("ETag");
  const modified = element.textOf("LastModifiedTime");
  const size = element.textOf("Size");
  const condition: Condition = {
    ...(etag === undefined ? {} : { ifMatch: bareETag(etag) }),
    ...(modified === undefined ? {} : { ifModifiedAt: demandedTime(modified) }),
    ...(size === undefined ? {} : { ifSizeBytes: demandedSize(size) }),
  };
  return {
    key,
    ...(versionId === undefined || versionId === "" ? {} : { versionId }),
    ...(Object.keys(condition).length === 0 ? {} : { condition }),
  };
}

async function deleteTarget(request: S3Request, target: Target): Promise<DeleteResult> {
  const { key, ...named } = target;
  checkKey(key);
  try {
    return await request.store.delete(request.bucketName, key, { owner: ownerOf(request), ...named });
  } catch (error) {
    if (target.condition === undefined || !(error instanceof SkepError) || error.status !== 404) throw error;
    return deleteAbsent(request, target, error);
  }
}

/** Whose a delete marker is: the requester's, or the bucket's where nobody signed. */
function ownerOf(request: S3Request): string {
  return request.identity.account?.id ?? request.bucket.owner;
}

/** A condition on what is not there: deleted it is already. A delete marker is something, without tag or size. */
async function deleteAbsent(request: S3Request, target: Target, error: SkepError): Promise<DeleteResult> {
  const { key, versionId, condition } = target;
  if (error.code === "BUCKET_NOT_FOUND") throw error;
  if (versionId !== undefined) return { deleteMarker: false };
  const isMarker = await request.store.head(request.bucketName, key).then(
    (latest) => latest.deleteMarker,
    () => false,
  );
  if (!isMarker) return { deleteMarker: false };
  if (!isDeepStrictEqual(condition, { ifMatch: "*" })) throw fail("PreconditionFailed", {}, { cause: error });
  return request.store.delete(request.bucketName, key, { owner: ownerOf(request) });
}

function deletedXml(request: S3Request, target: Target, result: DeleteResult): string {
  const versioned = request.bucket.versioning !== "off";
  return nest(
    "Deleted",
    tag("Key", target.key),
    tag("VersionId", target.versionId),
    result.deleteMarker && versioned
      ? tag("DeleteMarker", true) + tag("DeleteMarkerVersionId", result.versionId)
      : "",
  );
}

function errorXml(target: Target, thrown: unknown): string {
  const error = toS3Error(thrown);
  return nest(
    "Error",
    tag("Key", target.key),
    tag("VersionId", target.versionId),
    tag("Code", error.code),
    tag("Message", error.message),
  );
}
