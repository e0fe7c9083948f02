/** Public access block and object ownership of a bucket. */
import type { Json } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { document, nest, tag } from "../xml.ts";
import { accessOf, ownerships, publicAccessBlocks } from "./bucket-access.ts";
import { isOnlyFullControl } from "./new-resources.ts";

const maxBodyBytes = 64 * 1024;

export async function putPublicAccessBlock(request: S3Request): Promise<S3Response> {
  const xml = await request.xmlBody("PublicAccessBlockConfiguration", maxBodyBytes);
  const publicAccessBlock: Record<string, Json> = {};
  for (const name of publicAccessBlocks) {
    const text = (xml.textOf(name) ?? "false").trim().toLowerCase();
    if (text !== "true" && text !== "false") throw fail("MalformedXML");
    publicAccessBlock[name] = text === "true";
  }
  await request.store.updateBucket(request.bucket.name, { settings: { publicAccessBlock } });
  return {};
}

export function getPublicAccessBlock({ bucket }: S3Request): S3Response {
  const { block } = accessOf(bucket);
  if (block === undefined) {
    throw fail("NoSuchPublicAccessBlockConfiguration", { BucketName: bucket.name });
  }
  const settings = publicAccessBlocks.map((name) => tag(name, block[name]));
  return { body: document("PublicAccessBlockConfiguration", ...settings) };
}

export async function deletePublicAccessBlock({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { publicAccessBlock: undefined } });
  return { status: 204 };
}

export async function putOwnershipControls(request: S3Request): Promise<S3Response> {
  const { bucket, store } = request;
  const xml = await request.xmlBody("OwnershipControls", maxBodyBytes);
  const text = xml.child("Rule")?.textOf("ObjectOwnership")?.trim();
  const ownership = ownerships.find((one) => one === text);
  if (ownership === undefined) throw fail("MalformedXML");
  // Whoever has access by the ACL would lose it without notice.
  const { acl } = accessOf(bucket);
  if (ownership === "BucketOwnerEnforced" && acl !== undefined && !isOnlyFullControl(acl, bucket.owner)) {
    throw fail("InvalidBucketAclWithObjectOwnership");
  }
  await store.updateBucket(bucket.name, { settings: { ownership } });
  return {};
}

export function getOwnershipControls({ bucket }: S3Request): S3Response {
  if (bucket.settings.ownership === undefined) {
    throw fail("OwnershipControlsNotFoundError", { BucketName: bucket.name });
  }
  const { ownership } = accessOf(bucket);
  return { body: document("OwnershipControls", nest("Rule", tag("ObjectOwnership", ownership))) };
}

export async function deleteOwnershipControls({ bucket, store }: S3Request): Promise<S3Response> {
  await store.updateBucket(bucket.name, { settings: { ownership: undefined } });
  return { status: 204 };
}
