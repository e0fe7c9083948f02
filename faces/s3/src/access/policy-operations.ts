import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { document, tag } from "../xml.ts";
import { isPublicAcl } from "./acl.ts";
import { accessOf } from "./bucket-access.ts";
import { parsePolicy } from "./policy.ts";

/** More than a policy may have, so that one that is too long is refused as such. */
const maxBodyBytes = 64 * 1024;

export async function putBucketPolicy(request: S3Request): Promise<S3Response> {
  const { bucket, store } = request;
  const text = await request.bodyText(maxBodyBytes);
  const policy = parsePolicy(text, bucket.name);
  if (policy.isPublic && accessOf(bucket).block?.BlockPublicPolicy === true) throw fail("AccessDenied");
  await store.updateBucket(bucket.name, { settings: { policy: text } });
  return { status: 204 };
}

/** The text that was put, byte by byte. */
export function getBucketPolicy({ bucket }: S3Request): S3Response {
  const { policy } = bucket.settings;
  if (typeof policy !== "string") throw fail("NoSuchBucketPolicy", { BucketName: bucket.name });
  return { headers: { "content-type": "application/json" }, body: policy };
}

export async function deleteBucketPolicy({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { policy: undefined } });
  return { status: 204 };
}

/** Whether everyone may do something with the bucket, by its policy or its ACL. */
export function getBucketPolicyStatus({ bucket }: S3Request): S3Response {
  const { policy, acl, block } = accessOf(bucket);
  const byPolicy = policy?.isPublic === true && block?.RestrictPublicBuckets !== true;
  const byAcl = isPublicAcl(acl) && block?.IgnorePublicAcls !== true;
  return { body: document("PolicyStatus", tag("IsPublic", byPolicy || byAcl)) };
}
