import type { Bucket, Json } from "@skep/objects";
import type { S3Request } from "../context.ts";

/** What the headers of CreateBucket set: ACL and object ownership. */
export function newBucketSettings(_request: S3Request): Record<string, Json> {
  return {};
}

/**
 * The ACL that the headers of a request give to the object it makes; undefined for a private one.
 * AccessControlListNotSupported where the bucket has none.
 */
export function newObjectAcl(_request: S3Request, _bucket: Bucket): Json | undefined {
  return undefined;
}
