/**
 * Access control lists: who was granted what on a bucket or an object.
 * Source: S3 user guide, "Access control list (ACL) overview".
 */
import type { Account } from "@skep/accounts";
import type { Json } from "@skep/objects";

export const permissions = ["FULL_CONTROL", "READ", "WRITE", "READ_ACP", "WRITE_ACP"] as const;
export type Permission = (typeof permissions)[number];

export const groupUris = {
  AllUsers: "http://acs.amazonaws.com/groups/global/AllUsers",
  AuthenticatedUsers: "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
  LogDelivery: "http://acs.amazonaws.com/groups/s3/LogDelivery",
} as const;
export type Group = keyof typeof groupUris;

/** To one account, by its canonical id, or to one group. */
export type Grant =
  | { readonly id: string; readonly permission: Permission }
  | { readonly group: Group; readonly permission: Permission };

/**
 * As it is kept in a bucket's settings and an object's attributes. None (undefined) is what nearly all
 * have and says: full control for the owner, nothing for others. An empty one leaves the owner only the
 * right to read and write the ACL.
 */
export type Acl = readonly Grant[];

export function storedAcl(json: Json | undefined): Acl | undefined {
  return json === undefined || json === null ? undefined : (json as unknown as Acl);
}

/** The form for keeping: undefined where it says no more than having none. */
export function aclToStore(acl: Acl, owner: string): Json | undefined {
  const [only] = acl;
  if (acl.length === 1 && only !== undefined && "id" in only) {
    if (only.id === owner && only.permission === "FULL_CONTROL") return undefined;
  }
  return acl as unknown as Json;
}

/** Whether the ACL lets the caller (undefined: anonymous) do what the permission names. */
export function grants(
  acl: Acl | undefined,
  owner: string,
  caller: Account | undefined,
  permission: Permission,
  ignorePublic: boolean,
): boolean {
  if (caller !== undefined && caller.id === owner) {
    if (acl === undefined || permission === "READ_ACP" || permission === "WRITE_ACP") return true;
  }
  if (acl === undefined) return false;
  return acl.some((grant) => {
    if (grant.permission !== permission && grant.permission !== "FULL_CONTROL") return false;
    if ("id" in grant) return grant.id === caller?.id;
    if (ignorePublic) return false;
    return grant.group === "AllUsers" || (grant.group === "AuthenticatedUsers" && caller !== undefined);
  });
}

/** Grants something to everyone, or to everyone who has an account. */
export function isPublicAcl(acl: Acl | undefined): boolean {
  return acl?.some((grant) => "group" in grant && grant.group !== "LogDelivery") ?? false;
}

export const cannedAcls = [
  "private",
  "public-read",
  "public-read-write",
  "authenticated-read",
  "bucket-owner-read",
  "bucket-owner-full-control",
  "log-delivery-write",
] as const;
export type CannedAcl = (typeof cannedAcls)[number];

/** What a canned ACL stands for. Those about the bucket's owner mean nothing more where he is the owner. */
export function expandCanned(canned: CannedAcl, owner: string, bucketOwner: string): Acl {
  const full: Grant = { id: owner, permission: "FULL_CONTROL" };
  switch (canned) {
    case "private":
      return [full];
    case "public-read":
      return [full, { group: "AllUsers", permission: "READ" }];
    case "public-read-write":
      return [full, { group: "AllUsers", permission: "READ" }, { group: "AllUsers", permission: "WRITE" }];
    case "authenticated-read":
      return [full, { group: "AuthenticatedUsers", permission: "READ" }];
    case "bucket-owner-read":
      return owner === bucketOwner ? [full] : [full, { id: bucketOwner, permission: "READ" }];
    case "bucket-owner-full-control":
      return owner === bucketOwner ? [full] : [full, { id: bucketOwner, permission: "FULL_CONTROL" }];
    case "log-delivery-write":
      return [
        full,
        { group: "LogDelivery", permission: "WRITE" },
        { group: "LogDelivery", permission: "READ_ACP" },
      ];
  }
}
