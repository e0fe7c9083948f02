import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { get } from "node:http";
import { after, before, describe, test } from "node:test";
import { presign, signedSubresources } from "@skep/sigv4";
import { send } from "./test-request.ts";
import { startTestServer, type TestServer } from "./test-server.ts";

let server: TestServer;

before(async () => {
  server = await startTestServer({ domain: "s3.test" });
  await send(server, server.main, "PUT", "/links");
  await send(server, server.main, "PUT", "/links/k", { body: "data" });
});

after(() => server[Symbol.asyncDispose]());

/** What of a target's path and query is signed, and the host where it names the bucket, is for the caller to say. */
function linkV2(method: string, target: string, signedText: string): string {
  const expires = Math.floor(Date.now() / 1000) + 60;
  const { accessKeyId, secret } = server.main;
  const text = `${method}\n\n\n${expires}\n${signedText}`;
  const signature = createHmac("sha1", secret).update(text).digest("base64");
  const mark = target.includes("?") ? "&" : "?";
  return `${target}${mark}AWSAccessKeyId=${accessKeyId}&Expires=${expires}&Signature=${encodeURIComponent(signature)}`;
}

function linkV4(method: string, target: string): string {
  const headers = { host: `127.0.0.1:${server.port}` };
  const options = { region: "us-east-1", now: Date.now(), expiresSeconds: 60 };
  return presign({ method, target, headers }, server.main, options);
}

describe("links", () => {
  test("of version 2 are good for what was signed", async () => {
    const link = linkV2("GET", "/links/k", "/links/k");
    assert.equal((await send(server, undefined, "GET", link)).text, "data");
    const record = server.records.at(-1);
    assert.deepEqual([record?.authentication, record?.signatureVersion], ["presigned", 2]);
    assert.ok(!record?.uri.includes("Signature=%"), "no signature in a log");
    for (const [method, target] of [
      ["DELETE", link],
      ["GET", link.replace("/k?", "/l?")],
      ["GET", `${link}&acl`],
      ["GET", `${link}&response-content-type=text/html`],
    ] as const) {
      assert.equal((await send(server, undefined, method, target)).code, "SignatureDoesNotMatch", target);
    }
  });

  test("of version 2 name a bucket by path or by host", async () => {
    const link = linkV2("GET", "/k", "/links/k");
    assert.equal((await send(server, undefined, "GET", link)).status, 403);
    const hosted = await new Promise<number | undefined>((resolve, reject) => {
      const request = get(server.url + link, { headers: { host: "links.s3.test" } }, (answer) => {
        answer.resume();
        resolve(answer.statusCode);
      });
      request.on("error", reject);
    });
    assert.equal(hosted, 200);
  });

  test("carry headers in their query, where SDKs put them", async () => {
    const put = linkV4("PUT", "/links/open?x-amz-acl=public-read&x-amz-meta-color=red");
    assert.equal((await send(server, undefined, "PUT", put, { body: "all" })).status, 200);
    const open = await send(server, undefined, "GET", "/links/open");
    assert.deepEqual([open.text, open.headers.get("x-amz-meta-color")], ["all", "red"]);
    const copy = linkV4("PUT", "/links/copied?x-amz-copy-source=links%2Fk");
    assert.match((await send(server, undefined, "PUT", copy)).text, /CopyObjectResult/);
    const digest = linkV4("PUT", "/links/sum?x-amz-checksum-crc32=AAAAAA%3D%3D");
    assert.equal((await send(server, undefined, "PUT", digest, { body: "more" })).code, "BadDigest");
    // Nobody has signed this one.
    const anonymous = await send(server, undefined, "PUT", "/links/x?x-amz-acl=public-read", { body: "" });
    assert.equal(anonymous.code, "AccessDenied");
  });

  test("of version 2 cover each sub-resource that selects an operation", async () => {
    const { operations } = await import("./operations.ts");
    // V2 of the listing tells nothing that V1 does not.
    const selecting = new Set(operations.flatMap(({ select = [] }) => select));
    selecting.delete("list-type");
    assert.deepEqual(
      [...selecting].filter((name) => !signedSubresources.has(name)),
      [],
    );
  });
});
