import type { Bucket, Json } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { versionHeader } from "../object-headers.ts";
import { headForAction } from "../operations/existing.ts";
import { parseXml } from "../xml.ts";
import { aclToStore, storedAcl } from "./acl.ts";
import { type AclOwners, aclFromHeaders, aclFromXml, aclToXml } from "./acl-input.ts";
import { accessOf } from "./bucket-access.ts";
import { refuseAcl, refusePublic } from "./new-resources.ts";

const maxAclBytes = 256 * 1024;

export function getBucketAcl({ bucket, service }: S3Request): S3Response {
  const { ownership, acl } = accessOf(bucket);
  const shown = ownership === "BucketOwnerEnforced" ? undefined : acl;
  return { body: aclToXml(shown, bucket.owner, service.accounts) };
}

export async function putBucketAcl(request: S3Request): Promise<S3Response> {
  const { bucket, store } = request;
  const acl = await aclToSet(request, bucket, bucket.owner);
  await store.updateBucket(bucket.name, { settings: { acl } });
  return {};
}

export async function getObjectAcl(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:GetObjectAcl");
  const { bucket, service } = request;
  const enforced = accessOf(bucket).ownership === "BucketOwnerEnforced";
  const owner = enforced ? bucket.owner : object.owner;
  const acl = enforced ? undefined : storedAcl(object.attributes.acl);
  return { headers: versionHeader(request, object.versionId), body: aclToXml(acl, owner, service.accounts) };
}

export async function putObjectAcl(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:PutObjectAcl");
  const { bucket, key, store } = request;
  const acl = await aclToSet(request, bucket, object.owner);
  await store.setAttributes(bucket.name, key, object.versionId, { acl });
  return { headers: versionHeader(request, object.versionId) };
}

/** The ACL of the headers or of the body, one of which has to be there, as it is kept. */
async function aclToSet(request: S3Request, bucket: Bucket, owner: string): Promise<Json | undefined> {
  const owners: AclOwners = { owner, bucketOwner: bucket.owner, accounts: request.service.accounts };
  const asked = aclFromHeaders(request.headers, owners);
  const text = await request.bodyText(maxAclBytes);
  if (asked !== undefined && text !== "") throw fail("UnexpectedContent");
  if (asked === undefined && text === "") throw fail("MissingSecurityHeader", { header: "x-amz-acl" });
  const given = asked ?? { acl: aclFromXml(parseXml(text, "AccessControlPolicy"), owners) };
  if (accessOf(bucket).ownership === "BucketOwnerEnforced") {
    refuseAcl(given, bucket.owner);
    return undefined;
  }
  refusePublic(bucket, given.acl);
  return aclToStore(given.acl, owner);
}
