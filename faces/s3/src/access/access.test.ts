import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { send as sendTo } from "../test-request.ts";
import { startTestServer, type TestServer, type TestUser } from "../test-server.ts";

let server: TestServer;
let main: TestUser;
let other: TestUser;
let count = 0;

before(async () => {
  server = await startTestServer();
  ({ main, other } = server);
});

after(() => server[Symbol.asyncDispose]());

type Options = Parameters<typeof sendTo>[4];
const send = (user: TestUser | undefined, method: string, target: string, options?: Options) =>
  sendTo(server, user, method, target, options);

/** The status, with S3's code where it is an error. */
async function outcome(user: TestUser | undefined, method: string, target: string, options?: Options) {
  const { status, code } = await send(user, method, target, options);
  return code === undefined ? String(status) : `${status} ${code}`;
}

async function newBucket(headers: Record<string, string> = {}): Promise<string> {
  const bucket = `/pail-${++count}`;
  assert.equal(await outcome(main, "PUT", bucket, { headers }), "200");
  return bucket;
}

const denied = "403 AccessDenied";

async function setPolicy(bucket: string, ...statements: object[]) {
  const body = JSON.stringify({ Version: "2012-10-17", Statement: statements });
  return outcome(main, "PUT", `${bucket}?policy`, { body });
}

const arn = (bucket: string, rest = "") => `arn:aws:s3:::${bucket.slice(1)}${rest}`;

test("what the canned ACLs of bucket and object open to others", async () => {
  const table = [
    // bucket, object, other account: get, list, put; anonymous: get, list, put
    ["private", "private", denied, denied, denied, denied, denied, denied],
    ["private", "public-read", "200", denied, denied, "200", denied, denied],
    ["private", "authenticated-read", "200", denied, denied, denied, denied, denied],
    ["public-read", "private", denied, "200", denied, denied, "200", denied],
    ["authenticated-read", "private", denied, "200", denied, denied, denied, denied],
    ["public-read-write", "private", denied, "200", "200", denied, "200", "200"],
  ] as const;
  for (const [bucketAcl, objectAcl, ...expected] of table) {
    const bucket = await newBucket({ "x-amz-acl": bucketAcl });
    await send(main, "PUT", `${bucket}/a`, { headers: { "x-amz-acl": objectAcl }, body: "x" });
    const got = [];
    for (const user of [other, undefined]) {
      got.push(await outcome(user, "GET", `${bucket}/a`));
      got.push(await outcome(user, "GET", bucket));
      got.push(await outcome(user, "PUT", `${bucket}/b`, { body: "y" }));
    }
    assert.deepEqual(got, expected, `${bucketAcl} ${objectAcl}`);
  }
});

test("who may not list a bucket does not learn which keys it lacks", async () => {
  const bucket = await newBucket();
  assert.equal(await outcome(main, "GET", `${bucket}/none`), "404 NoSuchKey");
  assert.equal(await outcome(other, "GET", `${bucket}/none`), denied);
  await send(main, "PUT", `${bucket}?acl`, { headers: { "x-amz-acl": "public-read" } });
  assert.equal(await outcome(other, "GET", `${bucket}/none`), "404 NoSuchKey");
  assert.equal(await outcome(undefined, "GET", `${bucket}/none`), "404 NoSuchKey");
  assert.equal(await outcome(undefined, "GET", "/no-such-pail/none"), "404 NoSuchBucket");
});

test("what a bucket is set to is its owner's business", async () => {
  const bucket = await newBucket({ "x-amz-acl": "public-read-write" });
  for (const what of ["policy", "cors", "lifecycle", "tagging", "versioning", "ownershipControls", "acl"]) {
    assert.equal(await outcome(other, "GET", `${bucket}?${what}`), denied, what);
    assert.equal(await outcome(other, "PUT", `${bucket}?${what}`, { body: "<x/>" }), denied, what);
    assert.equal(await outcome(undefined, "GET", `${bucket}?${what}`), denied, what);
  }
  assert.equal(await outcome(other, "DELETE", bucket), denied);
});

test("the ACL of an object can be given to another, its ownership not", async () => {
  const bucket = await newBucket();
  await send(main, "PUT", `${bucket}/a`, { body: "x" });
  const grant = { "x-amz-grant-write-acp": `id=${other.account.id}` };
  assert.equal(await outcome(main, "PUT", `${bucket}/a?acl`, { headers: grant }), "200");
  assert.equal(await outcome(other, "GET", `${bucket}/a?acl`), denied);
  const publicRead = { headers: { "x-amz-acl": "public-read" } };
  assert.equal(await outcome(other, "PUT", `${bucket}/a?acl`, publicRead), "200");
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), "200");
  const { text } = await send(main, "GET", `${bucket}/a?acl`);
  assert.match(text, new RegExp(`<Owner><ID>${main.account.id}</ID>`));
  const body = `<AccessControlPolicy><Owner><ID>${other.account.id}</ID></Owner><AccessControlList/></AccessControlPolicy>`;
  assert.equal(await outcome(main, "PUT", `${bucket}/a?acl`, { body }), denied);
  assert.equal(await outcome(main, "PUT", `${bucket}/a?acl`), "400 MissingSecurityHeader");
  assert.equal(
    await outcome(main, "PUT", `${bucket}/a?acl`, { ...publicRead, body }),
    "400 UnexpectedContent",
  );
});

test("a version has an ACL of its own", async () => {
  const bucket = await newBucket();
  const body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
  assert.equal(await outcome(main, "PUT", `${bucket}?versioning`, { body }), "200");
  const first = await send(main, "PUT", `${bucket}/a`, {
    headers: { "x-amz-acl": "public-read" },
    body: "1",
  });
  await send(main, "PUT", `${bucket}/a`, { body: "2" });
  const version = first.headers.get("x-amz-version-id");
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), denied);
  assert.equal(await outcome(undefined, "GET", `${bucket}/a?versionId=${version}`), "200");
  await send(main, "PUT", `${bucket}/a?acl&versionId=${version}`, { headers: { "x-amz-acl": "private" } });
  assert.equal(await outcome(undefined, "GET", `${bucket}/a?versionId=${version}`), denied);
});

test("a policy opens to others what it names, and a deny shuts out the owner too", async () => {
  const bucket = await newBucket();
  await send(main, "PUT", `${bucket}/open/a`, { body: "x" });
  await send(main, "PUT", `${bucket}/shut/a`, { body: "x" });
  const open = { Effect: "Allow", Principal: "*", Action: "s3:GetObject", Resource: arn(bucket, "/open/*") };
  const shut = { Effect: "Deny", Principal: "*", Action: "s3:*", Resource: arn(bucket, "/shut/*") };
  assert.equal(await setPolicy(bucket, open, shut), "204");
  assert.equal(await outcome(undefined, "GET", `${bucket}/open/a`), "200");
  assert.equal(await outcome(other, "GET", `${bucket}/shut/a`), denied);
  assert.equal(await outcome(main, "GET", `${bucket}/shut/a`), denied);
  assert.equal(await outcome(main, "DELETE", `${bucket}/shut/a`), denied);
  const { text } = await send(main, "GET", `${bucket}?policy`);
  assert.deepEqual(JSON.parse(text).Statement, [open, shut]);
  assert.match((await send(main, "GET", `${bucket}?policyStatus`)).text, /<IsPublic>true</);
  assert.equal(await outcome(main, "DELETE", `${bucket}?policy`), "204");
  assert.equal(await outcome(main, "GET", `${bucket}/shut/a`), "200");
  assert.equal(await outcome(undefined, "GET", `${bucket}/open/a`), denied);
  assert.equal(await outcome(main, "GET", `${bucket}?policy`), "404 NoSuchBucketPolicy");
  assert.equal(await setPolicy(bucket, { ...open, Action: "s3:Fetch" }), "400 MalformedPolicy");
});

test("a policy does not give away what another account has put into the bucket", async () => {
  const bucket = await newBucket({ "x-amz-acl": "public-read-write" });
  await send(main, "PUT", `${bucket}/mine`, { body: "x" });
  await send(other, "PUT", `${bucket}/theirs`, { body: "x" });
  await setPolicy(bucket, {
    ...{ Effect: "Allow", Principal: "*", Action: "s3:GetObject" },
    Resource: arn(bucket, "/*"),
  });
  assert.equal(await outcome(undefined, "GET", `${bucket}/mine`), "200");
  assert.equal(await outcome(undefined, "GET", `${bucket}/theirs`), denied);
  assert.equal(await outcome(main, "GET", `${bucket}/theirs`), denied);
  assert.equal(await outcome(other, "GET", `${bucket}/theirs`), "200");
});

test("an owner whom a policy shuts out of everything can take it back", async () => {
  const bucket = await newBucket();
  const all = [arn(bucket), arn(bucket, "/*")];
  assert.equal(
    await setPolicy(bucket, { Effect: "Deny", Principal: "*", Action: "s3:*", Resource: all }),
    "204",
  );
  assert.equal(await outcome(main, "GET", bucket), denied);
  assert.equal(await outcome(other, "DELETE", `${bucket}?policy`), denied);
  assert.equal(await outcome(main, "DELETE", `${bucket}?policy`), "204");
  assert.equal(await outcome(main, "GET", bucket), "200");
});

test("conditions on what a request brings and on the tags that are there", async () => {
  const bucket = await newBucket();
  const may = (Action: string, Condition: object, Effect = "Allow") => ({
    ...{ Effect, Principal: { AWS: other.account.id }, Action, Condition },
    Resource: [arn(bucket), arn(bucket, "/*")],
  });
  await setPolicy(
    bucket,
    may("s3:ListBucket", { StringLike: { "s3:prefix": "open/*" } }),
    may("s3:PutObject", { StringNotLike: { "s3:x-amz-acl": "public*" } }),
    may("s3:GetObject", { StringEquals: { "s3:ExistingObjectTag/state": "done" } }),
    may("s3:PutObjectTagging", {
      StringEquals: { "s3:RequestObjectTag/state": "done" },
      "ForAllValues:StringLike": { "s3:RequestObjectTagKeys": ["state", "by-*"] },
    }),
  );
  assert.equal(await outcome(other, "GET", `${bucket}?prefix=open/`), "200");
  assert.equal(await outcome(other, "GET", `${bucket}?prefix=shut/`), denied);
  assert.equal(await outcome(other, "GET", bucket), denied);
  assert.equal(await outcome(other, "HEAD", `${bucket}/open/none`), "404");
  assert.equal(await outcome(other, "HEAD", `${bucket}/shut/none`), "403");
  assert.equal(await outcome(other, "PUT", `${bucket}/a`, { body: "x" }), "200");
  const open = { "x-amz-acl": "public-read" };
  assert.equal(await outcome(other, "PUT", `${bucket}/a`, { headers: open, body: "x" }), denied);
  const tagged = { "x-amz-tagging": "state=done" };
  await send(main, "PUT", `${bucket}/done`, { headers: tagged, body: "x" });
  await send(main, "PUT", `${bucket}/plain`, { body: "x" });
  assert.equal(await outcome(other, "GET", `${bucket}/done`), "200");
  assert.equal(await outcome(other, "GET", `${bucket}/plain`), denied);
  const tagging = (...tags: string[]) => ({
    body: `<Tagging><TagSet>${tags
      .map((tag) => `<Tag><Key>${tag.split("=")[0]}</Key><Value>${tag.split("=")[1]}</Value></Tag>`)
      .join("")}</TagSet></Tagging>`,
  });
  assert.equal(await outcome(other, "PUT", `${bucket}/plain?tagging`, tagging("state=open")), denied);
  assert.equal(await outcome(other, "PUT", `${bucket}/plain?tagging`, tagging("state=done", "x=y")), denied);
  assert.equal(
    await outcome(other, "PUT", `${bucket}/plain?tagging`, tagging("state=done", "by-me=1")),
    "200",
  );
});

test("the four effects of the public access block", async () => {
  const bucket = await newBucket({ "x-amz-acl": "public-read" });
  await send(main, "PUT", `${bucket}/a`, { headers: { "x-amz-acl": "public-read" }, body: "x" });
  const block = (...names: string[]) => ({
    body: `<PublicAccessBlockConfiguration>${names.map((name) => `<${name}>true</${name}>`).join("")}</PublicAccessBlockConfiguration>`,
  });
  const target = `${bucket}?publicAccessBlock`;
  assert.equal(await outcome(main, "GET", target), "404 NoSuchPublicAccessBlockConfiguration");
  assert.equal(await outcome(main, "PUT", target, block("BlockPublicAcls")), "200");
  const open = { headers: { "x-amz-acl": "public-read" } };
  assert.equal(await outcome(main, "PUT", `${bucket}?acl`, open), denied);
  assert.equal(await outcome(main, "PUT", `${bucket}/a?acl`, open), denied);
  assert.equal(await outcome(main, "PUT", `${bucket}/b`, { ...open, body: "x" }), denied);
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), "200");
  await send(main, "PUT", target, block("IgnorePublicAcls"));
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), denied);
  assert.equal(await outcome(undefined, "GET", bucket), denied);
  assert.equal(await outcome(main, "PUT", `${bucket}/b`, { ...open, body: "x" }), "200");
  const allow = { Effect: "Allow", Principal: "*", Action: "s3:GetObject", Resource: arn(bucket, "/*") };
  await send(main, "PUT", target, block("BlockPublicPolicy", "IgnorePublicAcls"));
  assert.equal(await setPolicy(bucket, allow), denied);
  assert.equal(await setPolicy(bucket, { ...allow, Principal: { AWS: other.account.number } }), "204");
  assert.equal(await outcome(other, "GET", `${bucket}/a`), "200");
  await send(main, "DELETE", target);
  assert.equal(await setPolicy(bucket, allow), "204");
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), "200");
  await send(main, "PUT", target, block("RestrictPublicBuckets"));
  assert.equal(await outcome(undefined, "GET", `${bucket}/a`), denied);
  assert.equal(await outcome(main, "GET", `${bucket}/a`), "200");
});

test("where ACLs are disabled the bucket's owner owns all, and no ACL is taken", async () => {
  const bucket = await newBucket({ "x-amz-object-ownership": "BucketOwnerEnforced" });
  const target = `${bucket}?ownershipControls`;
  assert.match((await send(main, "GET", target)).text, /<ObjectOwnership>BucketOwnerEnforced</);
  const all = { Effect: "Allow", Principal: "*", Action: "s3:*", Resource: [arn(bucket), arn(bucket, "/*")] };
  await setPolicy(bucket, all);
  await send(other, "PUT", `${bucket}/a`, { body: "x" });
  assert.match(
    (await send(main, "GET", `${bucket}/a?acl`)).text,
    new RegExp(`<Owner><ID>${main.account.id}<`),
  );
  const full = { headers: { "x-amz-acl": "bucket-owner-full-control" }, body: "x" };
  assert.equal(await outcome(other, "PUT", `${bucket}/b`, full), "200");
  const own = { headers: { "x-amz-acl": "private" }, body: "x" };
  assert.equal(await outcome(other, "PUT", `${bucket}/b`, own), "400 AccessControlListNotSupported");
  assert.equal(
    await outcome(main, "PUT", `${bucket}?acl`, { headers: { "x-amz-acl": "public-read" } }),
    "400 AccessControlListNotSupported",
  );
  assert.equal(await outcome(main, "DELETE", target), "204");
  assert.equal(await outcome(main, "GET", target), "404 OwnershipControlsNotFoundError");
});

test("a bucket whose ACL opens it does not lose that without notice", async () => {
  const bucket = await newBucket({ "x-amz-acl": "public-read" });
  const body =
    "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule></OwnershipControls>";
  const target = `${bucket}?ownershipControls`;
  assert.equal(await outcome(main, "PUT", target, { body }), "400 InvalidBucketAclWithObjectOwnership");
  await send(main, "PUT", `${bucket}?acl`, { headers: { "x-amz-acl": "private" } });
  assert.equal(await outcome(main, "PUT", target, { body }), "200");
  const headers = { "x-amz-acl": "public-read", "x-amz-object-ownership": "BucketOwnerEnforced" };
  assert.equal(
    await outcome(main, "PUT", "/pail-open-and-shut", { headers }),
    "400 InvalidBucketAclWithObjectOwnership",
  );
});

test("whose an object is under the other two ownerships", async () => {
  for (const [ownership, owner] of [
    ["BucketOwnerPreferred", main],
    ["ObjectWriter", other],
  ] as const) {
    const bucket = await newBucket({ "x-amz-acl": "public-read-write", "x-amz-object-ownership": ownership });
    const full = { headers: { "x-amz-acl": "bucket-owner-full-control" }, body: "x" };
    await send(other, "PUT", `${bucket}/a`, full);
    const { text } = await send(main, "GET", `${bucket}/a?acl`);
    assert.match(text, new RegExp(`<Owner><ID>${owner.account.id}<`), ownership);
    await send(other, "PUT", `${bucket}/b`, { body: "x" });
    assert.equal(await outcome(other, "GET", `${bucket}/b`), "200");
    assert.equal(await outcome(main, "GET", `${bucket}/b`), denied, "the writer's own");
    assert.equal(await outcome(main, "DELETE", `${bucket}/b`), "204");
  }
});

test("who signs for another region is told the right one, as s3cmd needs", async () => {
  const { code, text } = await send(main, "GET", "/", { region: "US" });
  assert.equal(code, "AuthorizationHeaderMalformed");
  assert.match(text, /<Region>us-east-1<\/Region>/);
});

test("a key with scopes reaches no further than they do", async () => {
  const [one, two] = [await newBucket(), await newBucket()];
  for (const bucket of [one, two]) await send(main, "PUT", `${bucket}/a`, { body: "x" });
  const keyWith = (access: "read" | "write"): TestUser => {
    const scopes = [{ bucket: one.slice(1), access }];
    const { key, secret } = server.accounts.createKey({ account: main.account.id, scopes });
    return { account: main.account, accessKeyId: key.accessKeyId, secret };
  };
  const [reader, writer] = [keyWith("read"), keyWith("write")];
  const table: [string, string, string, string][] = [
    ["GET", `${one}/a`, "200", "200"],
    ["GET", one, "200", "200"],
    ["PUT", `${one}/b`, denied, "200"],
    ["DELETE", `${one}/b`, denied, "204"],
    ["GET", `${two}/a`, denied, denied],
    ["PUT", `${two}/b`, denied, denied],
    ["PUT", `${one}?versioning`, denied, denied],
    ["DELETE", one, denied, denied],
    ["PUT", "/pail-of-a-scoped-key", denied, denied],
  ];
  for (const [method, target, reads, writes] of table) {
    const options = method === "PUT" ? { body: "x" } : {};
    assert.equal(await outcome(reader, method, target, options), reads, `read ${method} ${target}`);
    assert.equal(await outcome(writer, method, target, options), writes, `write ${method} ${target}`);
  }
});

test("who began an upload may list its parts and abort it, nobody else but the bucket's owner", async () => {
  const bucket = await newBucket();
  const begin = { Effect: "Allow", Principal: { AWS: other.account.id }, Action: "s3:PutObject" };
  await setPolicy(bucket, { ...begin, Resource: arn(bucket, "/*") });
  const idOf = async (user: TestUser) =>
    /<UploadId>([^<]+)/.exec((await send(user, "POST", `${bucket}/k?uploads`)).text)?.[1];
  const [theirs, ours] = [await idOf(other), await idOf(main)];
  assert.equal(await outcome(other, "GET", `${bucket}/k?uploadId=${theirs}`), "200");
  assert.equal(await outcome(other, "GET", `${bucket}/k?uploadId=${ours}`), denied);
  assert.equal(await outcome(other, "DELETE", `${bucket}/k?uploadId=${ours}`), denied);
  assert.equal(await outcome(other, "DELETE", `${bucket}/k?uploadId=none`), denied);
  assert.equal(await outcome(other, "DELETE", `${bucket}/k?uploadId=${theirs}`), "204");
  assert.equal(await outcome(main, "DELETE", `${bucket}/k?uploadId=${theirs}`), "404 NoSuchUpload");
  assert.equal(await outcome(main, "DELETE", `${bucket}/k?uploadId=${ours}`), "204");
  const anonymous = { ...begin, Principal: "*", Resource: arn(bucket, "/*") };
  await setPolicy(bucket, anonymous);
  const nobodys = /<UploadId>([^<]+)/.exec((await send(undefined, "POST", `${bucket}/k?uploads`)).text)?.[1];
  assert.equal(await outcome(undefined, "DELETE", `${bucket}/k?uploadId=${nobodys}`), denied);
  const refused = {
    ...begin,
    Effect: "Deny",
    Action: "s3:AbortMultipartUpload",
    Resource: arn(bucket, "/*"),
  };
  await setPolicy(bucket, { ...begin, Resource: arn(bucket, "/*") }, refused);
  assert.equal(await outcome(other, "DELETE", `${bucket}/k?uploadId=${await idOf(other)}`), denied);
});
