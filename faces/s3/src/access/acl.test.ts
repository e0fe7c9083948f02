import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { after, before, test } from "node:test";
import { type Account, type Accounts, openAccounts } from "@skep/accounts";
import { parseXml } from "../xml.ts";
import { type Acl, aclToStore, expandCanned, grants, isPublicAcl, type Permission } from "./acl.ts";
import { type AclOwners, aclFromHeaders, aclFromXml, aclToXml } from "./acl-input.ts";

let home: string;
let accounts: Accounts;
let ann: Account;
let bob: Account;
let owners: AclOwners;

before(async () => {
  home = await mkdtemp("/tmp/skep-acl-");
  accounts = openAccounts({ home });
  ann = accounts.createAccount({ name: "ann", email: "ann@example.org" });
  bob = accounts.createAccount({ name: "bob", email: "bob@example.org" });
  owners = { owner: ann.id, bucketOwner: bob.id, accounts };
});

after(async () => {
  accounts[Symbol.dispose]();
  await rm(home, { recursive: true });
});

const every: Permission[] = ["READ", "WRITE", "READ_ACP", "WRITE_ACP"];
const may = (acl: Acl | undefined, caller: Account | undefined, ignorePublic = false) =>
  every.filter((permission) => grants(acl, ann.id, caller, permission, ignorePublic)).join(" ");

test("whom canned ACLs let do what", () => {
  const all = every.join(" ");
  const table = [
    ["private", all, "", ""],
    ["public-read", all, "READ", "READ"],
    ["public-read-write", all, "READ WRITE", "READ WRITE"],
    ["authenticated-read", all, "READ", ""],
    ["bucket-owner-read", all, "READ", ""],
    ["bucket-owner-full-control", all, all, ""],
    ["log-delivery-write", all, "", ""],
  ] as const;
  for (const [canned, owner, other, anonymous] of table) {
    const acl = expandCanned(canned, ann.id, bob.id);
    assert.deepEqual([may(acl, ann), may(acl, bob), may(acl, undefined)], [owner, other, anonymous], canned);
  }
});

test("no ACL is the owner's alone; an empty one leaves him the ACL itself", () => {
  assert.deepEqual([may(undefined, ann), may(undefined, bob)], [every.join(" "), ""]);
  assert.deepEqual([may([], ann), may([], bob)], ["READ_ACP WRITE_ACP", ""]);
});

test("public grants count for nothing where they are ignored", () => {
  const acl = expandCanned("public-read-write", ann.id, ann.id);
  assert.equal(may(acl, bob, true), "");
  assert.equal(may([{ id: bob.id, permission: "READ" }], bob, true), "READ");
  assert.equal(isPublicAcl(acl), true);
  assert.equal(isPublicAcl(expandCanned("authenticated-read", ann.id, ann.id)), true);
  assert.equal(isPublicAcl(expandCanned("log-delivery-write", ann.id, ann.id)), false);
});

test("a private ACL is not kept at all", () => {
  assert.equal(aclToStore(expandCanned("private", ann.id, bob.id), ann.id), undefined);
  assert.notEqual(aclToStore(expandCanned("private", bob.id, bob.id), ann.id), undefined);
  assert.deepEqual(aclToStore([], ann.id), []);
});

test("grants in headers", () => {
  const header = `id=${ann.id}, emailAddress="bob@example.org" ,uri=http://acs.amazonaws.com/groups/global/AllUsers`;
  assert.deepEqual(aclFromHeaders({ "x-amz-grant-read-acp": header }, owners)?.acl, [
    { id: ann.id, permission: "READ_ACP" },
    { id: bob.id, permission: "READ_ACP" },
    { group: "AllUsers", permission: "READ_ACP" },
  ]);
  assert.equal(aclFromHeaders({}, owners), undefined);
  const table: [Record<string, string>, string][] = [
    [{ "x-amz-acl": "public" }, "InvalidArgument"],
    [{ "x-amz-acl": "private", "x-amz-grant-read": `id=${ann.id}` }, "InvalidRequest"],
    [{ "x-amz-grant-read": "ann" }, "InvalidArgument"],
    [{ "x-amz-grant-read": "id=none" }, "InvalidArgument"],
    [{ "x-amz-grant-read": "id=ann" }, "InvalidArgument"],
    [{ "x-amz-grant-read": "uri=http://example.org" }, "InvalidArgument"],
    [{ "x-amz-grant-read": "emailAddress=no@example.org" }, "UnresolvableGrantByEmailAddress"],
    [{ "x-amz-grant-read": Array(101).fill(`id=${ann.id}`).join(",") }, "MalformedACLError"],
  ];
  for (const [headers, code] of table) {
    assert.throws(() => aclFromHeaders(headers, owners), { code }, JSON.stringify(headers).slice(0, 100));
  }
});

const grantXml = (grantee: string, type: string, permission = "READ") =>
  `<Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="${type}">${grantee}</Grantee><Permission>${permission}</Permission></Grant>`;
const policyXml = (grant: string, owner = ann.id) =>
  parseXml(
    `<AccessControlPolicy><Owner><ID>${owner}</ID></Owner><AccessControlList>${grant}</AccessControlList></AccessControlPolicy>`,
    "AccessControlPolicy",
  );

test("an ACL as XML, in and out", () => {
  const acl: Acl = [
    { group: "AuthenticatedUsers", permission: "READ" },
    { id: bob.id, permission: "WRITE_ACP" },
  ];
  const xml = aclToXml(acl, ann.id, accounts);
  assert.deepEqual(aclFromXml(parseXml(xml, "AccessControlPolicy"), owners), acl);
  assert.match(xml, /<DisplayName>bob<\/DisplayName>/);
  assert.deepEqual(aclFromXml(policyXml(""), owners), []);
  assert.deepEqual(
    aclFromXml(
      policyXml(grantXml("<EmailAddress>bob@example.org</EmailAddress>", "AmazonCustomerByEmail")),
      owners,
    ),
    [{ id: bob.id, permission: "READ" }],
  );
});

test("an ACL that is not one, or that gives the object away, is refused", () => {
  const id = `<ID>${ann.id}</ID>`;
  const table: [string, string, string?][] = [
    [grantXml(id, "CanonicalUser", "READ_WRITE"), "MalformedACLError"],
    [grantXml(id, "User"), "MalformedACLError"],
    [grantXml("", "CanonicalUser"), "MalformedACLError"],
    ["<Grant/>", "MalformedACLError"],
    ["<Other/>", "MalformedACLError"],
    [grantXml("<ID>none</ID>", "CanonicalUser"), "InvalidArgument"],
    [grantXml("<URI>http://example.org</URI>", "Group"), "InvalidArgument"],
    [grantXml(id, "CanonicalUser"), "AccessDenied", bob.id],
  ];
  for (const [grant, code, owner] of table) {
    assert.throws(() => aclFromXml(policyXml(grant, owner), owners), { code }, grant);
  }
  assert.throws(() => aclFromXml(parseXml("<AccessControlPolicy/>", "AccessControlPolicy"), owners), {
    code: "MalformedACLError",
  });
});
