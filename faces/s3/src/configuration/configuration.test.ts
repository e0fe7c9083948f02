import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { send as sendTo } from "../test-request.ts";
import { startTestServer, type TestServer } from "../test-server.ts";

let server: TestServer;
let count = 0;

before(async () => {
  server = await startTestServer();
});

after(() => server[Symbol.asyncDispose]());

type Options = Parameters<typeof sendTo>[4];
const send = (method: string, target: string, options?: Options) =>
  sendTo(server, server.main, method, target, options);

async function outcome(method: string, target: string, options?: Options) {
  const { status, code } = await send(method, target, options);
  return code === undefined ? String(status) : `${status} ${code}`;
}

async function newBucket(): Promise<string> {
  const bucket = `/jar-${++count}`;
  assert.equal(await outcome("PUT", bucket), "200");
  return bucket;
}

const tagging = (...tags: [string, string][]) => ({
  body: `<Tagging><TagSet>${tags.map(([key, value]) => `<Tag><Key>${key}</Key><Value>${value}</Value></Tag>`).join("")}</TagSet></Tagging>`,
});
const many = (n: number) => Array.from({ length: n }, (_, i): [string, string] => [`k${i}`, "v"]);

test("versioning is set, suspended and told", async () => {
  const bucket = await newBucket();
  const put = (inner: string) =>
    outcome("PUT", `${bucket}?versioning`, {
      body: `<VersioningConfiguration>${inner}</VersioningConfiguration>`,
    });
  assert.doesNotMatch((await send("GET", `${bucket}?versioning`)).text, /Status/);
  for (const status of ["Enabled", "Suspended"]) {
    assert.equal(await put(`<Status>${status}</Status>`), "200");
    assert.match((await send("GET", `${bucket}?versioning`)).text, new RegExp(`<Status>${status}<`));
  }
  assert.equal(await put("<Status>On</Status>"), "400 MalformedXML");
  assert.equal(await put(""), "400 IllegalVersioningConfigurationException");
  assert.equal(await put("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>"), "501 NotImplemented");
});

test("tags of a bucket", async () => {
  const target = `${await newBucket()}?tagging`;
  assert.equal(await outcome("GET", target), "404 NoSuchTagSet");
  assert.equal(await outcome("PUT", target, tagging(...many(50))), "204");
  assert.equal(await outcome("PUT", target, tagging(...many(51))), "400 InvalidTag");
  assert.equal(await outcome("PUT", target, tagging(["b", "2"], ["a", "1"])), "204");
  assert.match((await send("GET", target)).text, /<Key>a<.*<Key>b</);
  assert.equal(await outcome("DELETE", target), "204");
  assert.equal(await outcome("GET", target), "404 NoSuchTagSet");
});

test("tags of an object never touch its bytes, and have limits", async () => {
  const bucket = await newBucket();
  const target = `${bucket}/a?tagging`;
  assert.equal(await outcome("PUT", target, tagging(["a", "1"])), "404 NoSuchKey");
  await send("PUT", `${bucket}/a`, { headers: { "x-amz-tagging": "x=1&y=a%20b+c&z" }, body: "bytes" });
  const { text } = await send("GET", target);
  assert.match(text, /<Key>x<\/Key><Value>1<.*<Key>y<\/Key><Value>a b c<.*<Key>z<\/Key><Value><\/Value>/);
  assert.equal((await send("HEAD", `${bucket}/a`)).headers.get("x-amz-tagging-count"), "3");
  const table: [ReturnType<typeof tagging>, string][] = [
    [tagging(...many(10)), "200"],
    [tagging(...many(11)), "400 InvalidTag"],
    [tagging(["k".repeat(128), "v".repeat(256)]), "200"],
    [tagging(["k".repeat(129), "v"]), "400 InvalidTag"],
    [tagging(["k", "v".repeat(257)]), "400 InvalidTag"],
    [tagging(["", "v"]), "400 InvalidTag"],
    [tagging(["aws:k", "v"]), "400 InvalidTag"],
    [tagging(["k", "v;"]), "400 InvalidTag"],
    [tagging(["k", "1"], ["k", "2"]), "400 InvalidTag"],
    [{ body: "<Tagging/>" }, "400 MalformedXML"],
    [{ body: "<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>" }, "400 MalformedXML"],
    [tagging(["clé", "ünï +-=._:/@"]), "200"],
  ];
  for (const [options, expected] of table) {
    assert.equal(await outcome("PUT", target, options), expected, options.body.slice(0, 120));
  }
  assert.equal((await send("GET", `${bucket}/a`)).text, "bytes");
  assert.equal(await outcome("DELETE", target), "204");
  assert.doesNotMatch((await send("GET", target)).text, /<Tag>/);
  for (const header of ["a=1&a=2", "%ff=1", `${"k".repeat(129)}=1`]) {
    const code = header === "%ff=1" ? "InvalidArgument" : "InvalidTag";
    const options = { headers: { "x-amz-tagging": header }, body: "x" };
    assert.equal(await outcome("PUT", `${bucket}/b`, options), `400 ${code}`);
  }
});

test("what is not configured says so; what cannot be configured is refused", async () => {
  const bucket = await newBucket();
  const table: [string, string, string][] = [
    ["encryption", "404 ServerSideEncryptionConfigurationNotFoundError", "501 NotImplemented"],
    ["replication", "404 ReplicationConfigurationNotFoundError", "501 NotImplemented"],
    ["website", "404 NoSuchWebsiteConfiguration", "501 NotImplemented"],
    ["object-lock", "404 ObjectLockConfigurationNotFoundError", "409 InvalidBucketState"],
    ["logging", "200", "501 NotImplemented"],
    ["notification", "200", "501 NotImplemented"],
    ["accelerate", "200", "501 NotImplemented"],
    ["cors", "404 NoSuchCORSConfiguration", "400 MalformedXML"],
    ["lifecycle", "404 NoSuchLifecycleConfiguration", "400 MalformedXML"],
  ];
  for (const [name, get, put] of table) {
    assert.equal(await outcome("GET", `${bucket}?${name}`), get, name);
    assert.equal(await outcome("PUT", `${bucket}?${name}`, { body: "<x/>" }), put, name);
  }
  assert.equal(await outcome("GET", `${bucket}?inventory&id=1`), "404 NoSuchConfiguration");
  await send("PUT", `${bucket}/a`, { body: "x" });
  assert.equal(await outcome("GET", `${bucket}/a?retention`), "400 InvalidRequest");
});

test("the owner pays, and nobody else can be made to", async () => {
  const target = `${await newBucket()}?requestPayment`;
  const put = (payer: string) =>
    outcome("PUT", target, {
      body: `<RequestPaymentConfiguration><Payer>${payer}</Payer></RequestPaymentConfiguration>`,
    });
  assert.match((await send("GET", target)).text, /<Payer>BucketOwner</);
  assert.equal(await put("BucketOwner"), "200");
  assert.equal(await put("Requester"), "501 NotImplemented");
  assert.equal(await put("Nobody"), "400 MalformedXML");
});
