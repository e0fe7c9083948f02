import { SkepError } from "@skep/base";
import type { ObjectVersion, OpenVersion, Upload } from "@skep/objects";
import type { Resource, S3Request } from "../context.ts";
import { fail } from "../errors.ts";

/** A version id may not be empty; "null" is the version from before versioning. */
export function versionIdOf(request: S3Request): string | undefined {
  const versionId = request.query.get("versionId");
  if (versionId === "") {
    throw fail("InvalidArgument", {
      why: "Version id cannot be the empty string",
      ArgumentName: "versionId",
      ArgumentValue: "",
    });
  }
  return versionId;
}

/**
 * The version that a request is about, after `action` was granted on it (`s3:GetObject` becomes
 * `s3:GetObjectVersion` where a version is named). Who may not list the bucket is told that access is
 * denied, not that there is nothing. A delete marker is no object: NoSuchKey, or MethodNotAllowed where
 * it is named.
 */
export async function headForAction(
  request: S3Request,
  action: string,
  asked: Pick<Resource, "requestTags"> = {},
): Promise<ObjectVersion> {
  const versionId = versionIdOf(request);
  const object = await request.store
    .head(request.bucketName, request.key, versionId)
    .catch((error: unknown) => refuseAbsent(request, action, versionId, error));
  grant(request, action, versionId, object, asked);
  return object;
}

/** As `headForAction`, open for reading. */
export async function openForAction(request: S3Request, action: string): Promise<OpenVersion> {
  const versionId = versionIdOf(request);
  const open = await request.store
    .open(request.bucketName, request.key, versionId)
    .catch((error: unknown) => refuseAbsent(request, action, versionId, error));
  try {
    grant(request, action, versionId, open.version);
    return open;
  } catch (error) {
    await open[Symbol.asyncDispose]();
    throw error;
  }
}

/** The upload that a request is about, after `action` was granted on it; NoSuchUpload only for who might have it. */
export async function uploadForAction(request: S3Request, action: string): Promise<Upload> {
  const { bucketName, bucket, key, query, store } = request;
  const upload = await store.upload(bucketName, key, query.get("uploadId") ?? "").catch((error: unknown) => {
    request.authorize(action, { bucket, key });
    throw error;
  });
  request.authorize(action, { bucket, key, upload });
  return upload;
}

const ofVersion = (action: string, versionId: string | undefined) =>
  versionId === undefined ? action : action.replace("Object", "ObjectVersion");

function refuseAbsent(
  request: S3Request,
  action: string,
  versionId: string | undefined,
  error: unknown,
): never {
  if (error instanceof SkepError && error.status === 404) {
    authorizeAbsence(request, ofVersion(action, versionId));
    if (error.code === "OBJECT_NOT_FOUND") {
      throw fail("NoSuchKey", {}, { headers: { "x-amz-delete-marker": "false" }, cause: error });
    }
  }
  throw error;
}

function grant(
  request: S3Request,
  action: string,
  versionId: string | undefined,
  object: ObjectVersion,
  asked: Pick<Resource, "requestTags"> = {},
): void {
  const needed = ofVersion(action, versionId);
  if (object.deleteMarker) {
    authorizeAbsence(request, needed);
    throw deleteMarkerError(object, versionId !== undefined);
  }
  request.authorize(needed, { bucket: request.bucket, key: request.key, object, ...asked });
}

/** Whether the caller may learn that there is nothing. */
function authorizeAbsence(request: S3Request, action: string): void {
  request.authorize("s3:ListBucket", { bucket: request.bucket });
  request.authorize(action, { bucket: request.bucket, key: request.key });
}

function deleteMarkerError(object: ObjectVersion, named: boolean) {
  const headers = { "x-amz-delete-marker": "true", "x-amz-version-id": object.versionId };
  if (!named) return fail("NoSuchKey", { Key: object.key }, { headers });
  return fail(
    "MethodNotAllowed",
    {},
    { headers: { ...headers, allow: "DELETE", "last-modified": new Date(object.modifiedAt).toUTCString() } },
  );
}
