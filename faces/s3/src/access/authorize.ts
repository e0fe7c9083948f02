/**
 * Who may do what. In this order: the scopes of the access key, the bucket's policy (an explicit deny
 * wins over all), the public access block, ownership and ACLs.
 * Source: S3 user guide, "How Amazon S3 authorizes a request".
 */
import type { Scope } from "@skep/accounts";
import type { Bucket } from "@skep/objects";
import type { Resource, S3Request } from "../context.ts";
import { fail } from "../errors.ts";
import { grants, type Permission, storedAcl } from "./acl.ts";
import { accessOf, type BucketAccess } from "./bucket-access.ts";
import { evaluate, type Verdict } from "./policy.ts";
import { conditionKeys } from "./request-keys.ts";

/** The permission on the bucket's ACL that an action needs; other actions are the owner's alone. */
const bucketPermissions: Readonly<Record<string, Permission>> = {
  "s3:ListBucket": "READ",
  "s3:ListBucketVersions": "READ",
  "s3:ListBucketMultipartUploads": "READ",
  "s3:GetBucketAcl": "READ_ACP",
  "s3:PutBucketAcl": "WRITE_ACP",
  "s3:PutObject": "WRITE",
  "s3:DeleteObject": "WRITE",
  "s3:AbortMultipartUpload": "WRITE",
  "s3:ListMultipartUploadParts": "WRITE",
};

/** The permission on the object's ACL that an action needs; other actions are its owners' alone. */
const objectPermissions: Readonly<Record<string, Permission>> = {
  "s3:GetObject": "READ",
  "s3:GetObjectVersion": "READ",
  "s3:GetObjectAttributes": "READ",
  "s3:GetObjectVersionAttributes": "READ",
  "s3:GetObjectTorrent": "READ",
  "s3:GetObjectAcl": "READ_ACP",
  "s3:GetObjectVersionAcl": "READ_ACP",
  "s3:PutObjectAcl": "WRITE_ACP",
  "s3:PutObjectVersionAcl": "WRITE_ACP",
};

/** Actions that are about an object that is there, and its owner's business. */
const ofObject =
  /^s3:(Get|Put|Delete)Object(Version)?(Acl|Attributes|Tagging|Torrent|Retention|LegalHold)$|^s3:GetObject(Version)?$|^s3:RestoreObject$/;

/** The owner's way out of a policy that shuts everybody out. */
const ofPolicy = /^s3:(Get|Put|Delete)BucketPolicy$/;

/** What whoever began an upload may do with it. */
const ofUpload = /^s3:(AbortMultipartUpload|ListMultipartUploadParts)$/;

/** Actions that a key with only read scope may use. */
const reading = /^s3:(Get|List|Head)/;

/**
 * Decides whether the identity of a request may do `action` (its IAM name, `s3:GetObject`) with a
 * resource. Throws AccessDenied. Asked for each operation before its handler runs and before a body is
 * taken; for what concerns an object's own ACL, by the handler once the object is known. Asked about a
 * key without its object, an action on objects is refused only by what needs no object: whether its
 * absence may be known is for `s3:ListBucket` to say.
 */
export function authorize(request: S3Request, action: string, resource: Resource): void {
  if (!isAllowed(request, action, resource)) throw fail("AccessDenied");
}

function isAllowed(request: S3Request, action: string, resource: Resource): boolean {
  const { account, scopes } = request.identity;
  const { bucket } = resource;
  if (scopes.length > 0 && !inScope(scopes, action, bucket?.name ?? request.bucketName, resource))
    return false;
  // Of no bucket, or of one that is yet to be: for everyone who has an account.
  if (bucket === undefined) return account !== undefined;
  const access = accessOf(bucket);
  const isOwner = account !== undefined && account.id === bucket.owner;
  if (isOwner && ofPolicy.test(action)) return true;
  if (access.policy !== undefined) {
    const verdict = askPolicy(request, action, resource, bucket, access);
    if (verdict === "deny") return false;
    if (verdict === "allow" && isGivenBy(bucket, access, resource)) return true;
  }
  return byOwnership(request, action, resource, bucket, access, isOwner);
}

/** The owner of a bucket gives nobody what another account put there as its own. */
function isGivenBy(bucket: Bucket, access: BucketAccess, { object }: Resource): boolean {
  return object === undefined || object.owner === bucket.owner || access.ownership === "BucketOwnerEnforced";
}

/** What a bucket's policy says; a public one gives nothing to others where public buckets are restricted. */
function askPolicy(
  request: S3Request,
  action: string,
  resource: Resource,
  bucket: Bucket,
  access: BucketAccess,
): Verdict {
  const { account } = request.identity;
  const policy = access.policy!;
  const verdict = evaluate(policy, {
    caller: account,
    action,
    resource: `arn:aws:s3:::${bucket.name}${resource.key === undefined ? "" : `/${resource.key}`}`,
    keys: conditionKeys(request, resource),
  });
  if (policy.isPublic && access.block?.RestrictPublicBuckets === true && account?.id !== bucket.owner) {
    return "deny";
  }
  return verdict;
}

function byOwnership(
  request: S3Request,
  action: string,
  resource: Resource,
  bucket: Bucket,
  access: BucketAccess,
  isOwner: boolean,
): boolean {
  const { account } = request.identity;
  const noAcls = access.ownership === "BucketOwnerEnforced";
  const ignorePublic = access.block?.IgnorePublicAcls === true;
  if (resource.key !== undefined && ofObject.test(action)) {
    const { object } = resource;
    if (object === undefined) return true;
    if (noAcls) return isOwner;
    const permission = objectPermissions[action];
    if (permission === undefined) return isOwner || account?.id === object.owner;
    return grants(storedAcl(object.attributes.acl), object.owner, account, permission, ignorePublic);
  }
  if (account !== undefined && account.id === resource.upload?.owner && ofUpload.test(action)) return true;
  const permission = bucketPermissions[action];
  if (permission === undefined || noAcls) return isOwner;
  return grants(access.acl, bucket.owner, account, permission, ignorePublic);
}

/**
 * Whether an access key reaches that far: a scope is about the objects of a bucket. What a bucket is set
 * to can be read, but only a key without scopes changes it, for it could open the bucket to others.
 */
function inScope(scopes: readonly Scope[], action: string, bucketName: string, resource: Resource): boolean {
  const scope = scopes.find((one) => one.bucket === bucketName);
  if (scope === undefined) return false;
  if (reading.test(action)) return true;
  return scope.access === "write" && (resource.key !== undefined || action === "s3:CreateBucket");
}
