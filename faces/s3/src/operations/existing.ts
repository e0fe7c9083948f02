import { SkepError } from "@skep/base";
import type { ObjectVersion } from "@skep/objects";
import type { S3Request } from "../context.ts";
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
export async function headForAction(request: S3Request, action: string): Promise<ObjectVersion> {
  const versionId = versionIdOf(request);
  return existing(request, action, versionId, () =>
    request.store.head(request.bucketName, request.key, versionId),
  );
}

/** What both reading an object and reading its attributes do before they have it. */
export async function existing<T extends ObjectVersion | { readonly version: ObjectVersion }>(
  request: S3Request,
  action: string,
  versionId: string | undefined,
  find: () => Promise<T>,
): Promise<T> {
  const { bucket, key } = request;
  const needed = versionId === undefined ? action : action.replace("Object", "ObjectVersion");
  let found: T;
  try {
    found = await find();
  } catch (error) {
    if (
      error instanceof SkepError &&
      (error.code === "OBJECT_NOT_FOUND" || error.code === "VERSION_NOT_FOUND")
    ) {
      authorizeAbsence(request, needed);
    }
    throw error;
  }
  const object = "version" in found ? found.version : found;
  if (object.deleteMarker) {
    authorizeAbsence(request, needed);
    throw deleteMarkerError(object, versionId !== undefined);
  }
  request.authorize(needed, { bucket, key, object });
  return found;
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
