import type { Bucket, Json } from "@skep/objects";
import { type Acl, storedAcl } from "./acl.ts";
import { type Policy, parsePolicy } from "./policy.ts";

export const ownerships = ["BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"] as const;
export type Ownership = (typeof ownerships)[number];

export const publicAccessBlocks = [
  "BlockPublicAcls",
  "IgnorePublicAcls",
  "BlockPublicPolicy",
  "RestrictPublicBuckets",
] as const;
export type PublicAccessBlock = Readonly<Record<(typeof publicAccessBlocks)[number], boolean>>;

/** What a bucket's settings say about access, read. */
export interface BucketAccess {
  readonly acl: Acl | undefined;
  readonly policy: Policy | undefined;
  readonly block: PublicAccessBlock | undefined;
  /**
   * ObjectWriter where nothing was set. S3 itself has begun new buckets with BucketOwnerEnforced and a
   * full public access block since April 2023; here they begin as before, private but able to have ACLs,
   * because the tools (s3cmd, rclone) and the tests of other S3 servers set ACLs without asking.
   */
  readonly ownership: Ownership;
}

/** Settings are a value, replaced when they change: what was read of them holds as long as they live. */
const read = new WeakMap<Bucket["settings"], BucketAccess>();

export function accessOf(bucket: Bucket): BucketAccess {
  let access = read.get(bucket.settings);
  if (access === undefined) {
    const { acl, policy, publicAccessBlock, ownership } = bucket.settings;
    access = {
      acl: storedAcl(acl),
      policy: typeof policy === "string" ? parsePolicy(policy, bucket.name) : undefined,
      block: storedBlock(publicAccessBlock),
      ownership: (ownership as Ownership | undefined) ?? "ObjectWriter",
    };
    read.set(bucket.settings, access);
  }
  return access;
}

function storedBlock(json: Json | undefined): PublicAccessBlock | undefined {
  return json === undefined || json === null ? undefined : (json as unknown as PublicAccessBlock);
}
