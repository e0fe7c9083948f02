/** ACLs as requests give them (canned, in headers, as XML) and as answers show them. */
import type { IncomingHttpHeaders } from "node:http";
import type { Account, Accounts } from "@skep/accounts";
import { fail } from "../errors.ts";
import { document, nest, tag, type XmlElement } from "../xml.ts";
import {
  type Acl,
  type CannedAcl,
  cannedAcls,
  expandCanned,
  type Grant,
  type Group,
  groupUris,
  type Permission,
  permissions,
} from "./acl.ts";

const maxGrants = 100;

const grantHeaders: readonly (readonly [string, Permission])[] = [
  ["x-amz-grant-read", "READ"],
  ["x-amz-grant-write", "WRITE"],
  ["x-amz-grant-read-acp", "READ_ACP"],
  ["x-amz-grant-write-acp", "WRITE_ACP"],
  ["x-amz-grant-full-control", "FULL_CONTROL"],
];

/** Of whom the ACL will be, and who answers for the ids in it. */
export interface AclOwners {
  readonly owner: string;
  readonly bucketOwner: string;
  readonly accounts: Accounts;
}

export interface HeaderAcl {
  readonly acl: Acl;
  readonly canned?: CannedAcl;
}

/** The ACL that the headers ask for; undefined where they ask for none. */
export function aclFromHeaders(headers: IncomingHttpHeaders, owners: AclOwners): HeaderAcl | undefined {
  const canned = headers["x-amz-acl"];
  const given = grantHeaders.filter(([name]) => headers[name] !== undefined);
  if (canned !== undefined && given.length > 0) {
    throw fail("InvalidRequest", { why: "Specifying both Canned ACLs and Header Grants is not allowed" });
  }
  if (canned !== undefined) {
    const name = parseCanned(canned);
    return { acl: expandCanned(name, owners.owner, owners.bucketOwner), canned: name };
  }
  if (given.length === 0) return undefined;
  const acl = given.flatMap(([name, permission]) =>
    parseGrantees(String(headers[name]), owners.accounts).map((grantee) => ({ ...grantee, permission })),
  );
  return { acl: checked(acl) };
}

function parseCanned(name: string | string[]): CannedAcl {
  if (name === "aws-exec-read") throw fail("NotImplemented", { what: "The canned ACL aws-exec-read" });
  const canned = cannedAcls.find((one) => one === name);
  if (canned === undefined) {
    throw fail("InvalidArgument", { why: "", ArgumentName: "x-amz-acl", ArgumentValue: String(name) });
  }
  return canned;
}

/** `id="…", emailAddress="…", uri="…"`, with or without quotes. */
function parseGrantees(header: string, accounts: Accounts): ({ id: string } | { group: Group })[] {
  return header.split(",").map((part) => {
    const [, kind, quoted, plain] = /^\s*(\w+)\s*=\s*(?:"([^"]*)"|([^\s"]+))\s*$/.exec(part) ?? [];
    const value = quoted ?? plain ?? "";
    switch (kind?.toLowerCase()) {
      case "id":
        return { id: knownId(value, accounts) };
      case "emailaddress":
        return { id: idOfEmail(value, accounts) };
      case "uri":
        return { group: groupOf(value) };
      default:
        throw fail("InvalidArgument", { why: "Argument format not recognized", ArgumentValue: header });
    }
  });
}

/** The ACL of an AccessControlPolicy document. Its owner has to be the one there is: ACLs give nothing away. */
export function aclFromXml(xml: XmlElement, owners: AclOwners): Acl {
  const owner = xml.child("Owner")?.textOf("ID")?.trim();
  const list = xml.child("AccessControlList");
  if (owner === undefined || list === undefined) throw fail("MalformedACLError");
  if (owner !== owners.owner) throw fail("AccessDenied");
  if (list.children.some((child) => child.name !== "Grant")) throw fail("MalformedACLError");
  return checked(list.all("Grant").map((grant) => parseGrant(grant, owners.accounts)));
}

function parseGrant(xml: XmlElement, accounts: Accounts): Grant {
  const grantee = xml.child("Grantee");
  const permission = permissions.find((one) => one === xml.textOf("Permission")?.trim());
  if (grantee === undefined || permission === undefined) throw fail("MalformedACLError");
  const type = Object.entries(grantee.attributes).find(([name]) => /(^|:)type$/.test(name))?.[1];
  const text = (name: string) => {
    const value = grantee.textOf(name)?.trim();
    if (value === undefined) throw fail("MalformedACLError");
    return value;
  };
  switch (type) {
    case "CanonicalUser":
      return { id: knownId(text("ID"), accounts), permission };
    case "AmazonCustomerByEmail":
      return { id: idOfEmail(text("EmailAddress"), accounts), permission };
    case "Group":
      return { group: groupOf(text("URI")), permission };
    default:
      throw fail("MalformedACLError");
  }
}

function checked(acl: Grant[]): Acl {
  if (acl.length > maxGrants) throw fail("MalformedACLError");
  return acl;
}

function findAccount(accounts: Accounts, reference: string): Account | undefined {
  try {
    return accounts.account(reference);
  } catch {
    return undefined;
  }
}

function knownId(id: string, accounts: Accounts): string {
  const account = findAccount(accounts, id);
  if (account?.id !== id) {
    throw fail("InvalidArgument", { why: "Invalid id", ArgumentName: "CanonicalUser/ID", ArgumentValue: id });
  }
  return id;
}

function idOfEmail(email: string, accounts: Accounts): string {
  const account = findAccount(accounts, email);
  if (account?.email !== email || email === "") throw fail("UnresolvableGrantByEmailAddress");
  return account.id;
}

function groupOf(uri: string): Group {
  const group = (Object.keys(groupUris) as Group[]).find((name) => groupUris[name] === uri);
  if (group === undefined) {
    throw fail("InvalidArgument", {
      why: "Invalid group uri",
      ArgumentName: "Group/URI",
      ArgumentValue: uri,
    });
  }
  return group;
}

const schemaInstance = 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"';

/** The document of GetBucketAcl and GetObjectAcl: groups first, as other servers do. */
export function aclToXml(acl: Acl | undefined, owner: string, accounts: Accounts): string {
  const person = (id: string) => tag("ID", id) + tag("DisplayName", findAccount(accounts, id)?.name);
  const all: Acl = acl ?? [{ id: owner, permission: "FULL_CONTROL" }];
  const ordered = [...all.filter((grant) => "group" in grant), ...all.filter((grant) => "id" in grant)];
  const list = ordered.map((grant) => {
    const grantee =
      "id" in grant
        ? `<Grantee ${schemaInstance} xsi:type="CanonicalUser">${person(grant.id)}</Grantee>`
        : `<Grantee ${schemaInstance} xsi:type="Group">${tag("URI", groupUris[grant.group])}</Grantee>`;
    return nest("Grant", grantee, tag("Permission", grant.permission));
  });
  return document("AccessControlPolicy", nest("Owner", person(owner)), nest("AccessControlList", ...list));
}
