/** To whom belongs what a request makes, and what ACL it gets. */
import type { Bucket, Json } from "@skep/objects";
import type { S3Request } from "../context.ts";
import { fail } from "../errors.ts";
import { type Acl, aclToStore, isPublicAcl } from "./acl.ts";
import { aclFromHeaders, type HeaderAcl } from "./acl-input.ts";
import { accessOf, type Ownership, ownerships } from "./bucket-access.ts";

/** What the headers of CreateBucket set: ACL and object ownership. */
export function newBucketSettings(request: S3Request): Record<string, Json> {
  const owner = request.identity.account?.id ?? "";
  const given = request.headers["x-amz-object-ownership"];
  const ownership = given === undefined ? undefined : parseOwnership(String(given));
  const { accounts } = request.service;
  const asked = aclFromHeaders(request.headers, { owner, bucketOwner: owner, accounts });
  const acl = asked && aclToStore(asked.acl, owner);
  if (ownership === "BucketOwnerEnforced" && acl !== undefined) {
    throw fail("InvalidBucketAclWithObjectOwnership");
  }
  return { ...(acl === undefined ? {} : { acl }), ...(ownership === undefined ? {} : { ownership }) };
}

function parseOwnership(text: string): Ownership {
  const ownership = ownerships.find((one) => one === text);
  if (ownership === undefined) {
    throw fail("InvalidArgument", {
      why: "Invalid x-amz-object-ownership value",
      ArgumentName: "x-amz-object-ownership",
      ArgumentValue: text,
    });
  }
  return ownership;
}

/**
 * Whose a new object is: the writer's, or the bucket owner's where the bucket's object ownership says so.
 * What the anonymous write is the bucket owner's, who else could neither read nor account for it.
 */
export function newObjectOwner(request: S3Request, bucket: Bucket): string {
  const writer = request.identity.account?.id ?? bucket.owner;
  const { ownership } = accessOf(bucket);
  if (ownership === "BucketOwnerEnforced") return bucket.owner;
  const given = ownership === "BucketOwnerPreferred" && request.headers["x-amz-acl"];
  return given === "bucket-owner-full-control" ? bucket.owner : writer;
}

/**
 * The ACL that the headers of a request give to the object it makes; undefined for a private one.
 * AccessControlListNotSupported where the bucket has none.
 */
export function newObjectAcl(request: S3Request, bucket: Bucket): Json | undefined {
  const owner = newObjectOwner(request, bucket);
  const { accounts } = request.service;
  const asked = aclFromHeaders(request.headers, { owner, bucketOwner: bucket.owner, accounts });
  if (asked === undefined) return undefined;
  if (accessOf(bucket).ownership === "BucketOwnerEnforced") {
    refuseAcl(asked, bucket.owner);
    return undefined;
  }
  refusePublic(bucket, asked.acl);
  return aclToStore(asked.acl, owner);
}

/** An ACL that says what holds without ACLs too. */
export function isOnlyFullControl(acl: Acl, owner: string): boolean {
  return aclToStore(acl, owner) === undefined;
}

/** Without ACLs only one is taken that says no more than the bucket owner's full control, by that name. */
export function refuseAcl({ acl, canned }: HeaderAcl, owner: string): void {
  const harmless =
    canned === undefined ? isOnlyFullControl(acl, owner) : canned === "bucket-owner-full-control";
  if (!harmless) throw fail("AccessControlListNotSupported");
}

/** AccessDenied for an ACL that opens something to everyone where the bucket blocks that. */
export function refusePublic(bucket: Bucket, acl: Acl): void {
  if (accessOf(bucket).block?.BlockPublicAcls === true && isPublicAcl(acl)) throw fail("AccessDenied");
}
