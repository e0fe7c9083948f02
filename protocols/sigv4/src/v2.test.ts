import { deepEqual, equal } from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, test } from "node:test";
import { type RequestShape, scopeOf, type Version2, verifyRequest } from "./index.ts";
import { accessKeyId, codeOf, options, secret } from "./test-requests.ts";

/** Keys, times, requests and signatures of AWS's page on version 2. */
interface Example {
  request: RequestShape;
  hostBucket?: string;
}

function example(
  method: string,
  target: string,
  signature: string,
  headers: Record<string, string | string[]>,
  hostBucket?: string,
): Example {
  const request = {
    method,
    target,
    headers: { ...headers, authorization: `AWS ${accessKeyId}:${signature}` },
  };
  return hostBucket === undefined ? { request } : { request, hostBucket };
}

const examples: Record<string, Example> = {
  "Object GET": example(
    "GET",
    "/photos/puppy.jpg",
    "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
    { date: "Tue, 27 Mar 2007 19:36:42 +0000" },
    "johnsmith",
  ),
  "Object PUT": example(
    "PUT",
    "/photos/puppy.jpg",
    "MyyxeRY7whkBe+bq8fHCL/2kKUg=",
    { "content-type": "image/jpeg", "content-length": "94328", date: "Tue, 27 Mar 2007 21:15:45 +0000" },
    "johnsmith",
  ),
  List: example(
    "GET",
    "/?prefix=photos&max-keys=50&marker=puppy",
    "htDYFYduRNen8P9ZfE/s9SuKy0U=",
    { "user-agent": "Mozilla/5.0", date: "Tue, 27 Mar 2007 19:42:41 +0000" },
    "johnsmith",
  ),
  "Fetch of a sub-resource": example(
    "GET",
    "/?acl",
    "c2WLPFtWHVgbEmeEG93a4cG37dM=",
    { date: "Tue, 27 Mar 2007 19:44:46 +0000" },
    "johnsmith",
  ),
  "Delete, path-style": example("DELETE", "/johnsmith/photos/puppy.jpg", "lx3byBScXR6KzyMaifNkardMwNk=", {
    "user-agent": "dotnet",
    date: "Tue, 27 Mar 2007 21:20:26 +0000",
  }),
  Upload: example(
    "PUT",
    "/db-backup.dat.gz",
    "ilyl83RwaSoYIEdixDQcA4OnAnc=",
    {
      date: "Tue, 27 Mar 2007 21:06:08 +0000",
      "x-amz-acl": "public-read",
      "content-type": "application/x-download",
      "content-md5": "4gJE4saaMU4BqNR0kLY+lw==",
      "x-amz-meta-reviewedby": ["joe@johnsmith.net", "jane@johnsmith.net"],
      "x-amz-meta-filechecksum": "0x02661779",
      "x-amz-meta-checksumalgorithm": "crc32",
      "content-disposition": "attachment; filename=database.dat",
      "content-encoding": "gzip",
      "content-length": "5913339",
    },
    "static.johnsmith.net",
  ),
  "List all my buckets": example("GET", "/", "qGdzdERIC03wnaRNKh6OqZehG9s=", {
    date: "Wed, 28 Mar 2007 01:29:59 +0000",
  }),
  "Unicode keys": example(
    "GET",
    "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
    "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    { date: "Wed, 28 Mar 2007 01:49:49 +0000" },
  ),
};

function verify(request: RequestShape, version2: Version2 = {}, now = signedAt(request)) {
  return verifyRequest(request, { ...options, now, version2 });
}

const signedAt = (request: RequestShape) => Date.parse(String(request.headers.date));
const codeAt = (request: RequestShape, version2?: Version2, now?: number) =>
  codeOf(() => verify(request, version2, now));

describe("AWS's examples of version 2", () => {
  for (const [name, { request, hostBucket }] of Object.entries(examples)) {
    test(`${name} is verified`, () => {
      const verified = verify(request, hostBucket === undefined ? {} : { hostBucket });
      deepEqual(
        [verified?.version, verified?.form, verified?.accessKeyId, verified?.payload],
        [2, "header", accessKeyId, { kind: "unsigned" }],
      );
    });
  }

  test("the link is verified until it expires, and not a second longer", () => {
    const target = `/photos/puppy.jpg?AWSAccessKeyId=${accessKeyId}&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620`;
    const request = { method: "GET", target, headers: { host: "johnsmith.s3.amazonaws.com" } };
    const bucket = { hostBucket: "johnsmith" };
    equal(verify(request, bucket, 1_175_139_620_000)?.form, "presigned");
    equal(codeAt(request, bucket, 1_175_139_620_001), "SIGNATURE_EXPIRED");
    equal(codeAt({ ...request, method: "PUT" }, bucket, 0), "SIGNATURE_MISMATCH");
  });
});

describe("a request signed by version 2", () => {
  const { request } = examples["Delete, path-style"] as Example;
  const now = signedAt(request);
  const withHeaders = (headers: Record<string, string | undefined>): RequestShape => ({
    ...request,
    headers: { ...request.headers, ...headers },
  });
  const authorization = (text: string) => withHeaders({ authorization: text });
  const right = request.headers.authorization as string;

  const bad: Record<string, [RequestShape, string]> = {
    "another method": [{ ...request, method: "GET" }, "SIGNATURE_MISMATCH"],
    "another key": [{ ...request, target: "/johnsmith/photos/kitten.jpg" }, "SIGNATURE_MISMATCH"],
    "a sub-resource more": [{ ...request, target: `${request.target}?tagging` }, "SIGNATURE_MISMATCH"],
    "a sub-resource in disguise": [
      { ...request, target: `${request.target}?%74agging` },
      "SIGNATURE_MISMATCH",
    ],
    "a version more": [{ ...request, target: `${request.target}?versionId=1` }, "SIGNATURE_MISMATCH"],
    "an x-amz header more": [withHeaders({ "x-amz-acl": "public-read" }), "SIGNATURE_MISMATCH"],
    "another content type": [withHeaders({ "content-type": "text/html" }), "SIGNATURE_MISMATCH"],
    "another MD5": [withHeaders({ "content-md5": "4gJE4saaMU4BqNR0kLY+lw==" }), "SIGNATURE_MISMATCH"],
    "another date": [withHeaders({ date: "Tue, 27 Mar 2007 21:20:27 +0000" }), "SIGNATURE_MISMATCH"],
    "a bit changed": [authorization(right.replace("lx3", "lx2")), "SIGNATURE_MISMATCH"],
    "a signature cut short": [authorization(right.slice(0, -1)), "SIGNATURE_MISMATCH"],
    "an unknown key": [authorization("AWS AKIAOTHER:lx3byBScXR6KzyMaifNkardMwNk="), "ACCESS_KEY_UNKNOWN"],
    "no signature": [authorization(`AWS ${accessKeyId}:`), "ARGUMENT_INVALID"],
    "no key": [authorization("AWS :lx3byBScXR6KzyMaifNkardMwNk="), "ARGUMENT_INVALID"],
    "no colon": [authorization("AWS HAHAHA"), "ARGUMENT_INVALID"],
    "nothing at all": [authorization("AWS"), "ARGUMENT_INVALID"],
    "two colons and a space": [authorization(`AWS ${accessKeyId}:a b:c`), "ARGUMENT_INVALID"],
    "no date": [withHeaders({ date: undefined }), "ACCESS_DENIED"],
    "a date that is none": [withHeaders({ date: "yesterday" }), "ACCESS_DENIED"],
    "an empty x-amz-date beside a date": [withHeaders({ "x-amz-date": "" }), "ACCESS_DENIED"],
    "a date before 1970": [withHeaders({ date: "Tue, 07 Jul 1950 21:53:04 GMT" }), "ACCESS_DENIED"],
    "an x-amz-date long past": [
      withHeaders({ "x-amz-date": "Tue, 07 Jul 1998 21:53:04 GMT" }),
      "TIME_SKEWED",
    ],
    "a session token": [withHeaders({ "x-amz-security-token": "x" }), "TOKEN_INVALID"],
    "a second signature in the query": [
      { ...request, target: `${request.target}?AWSAccessKeyId=a&Signature=b&Expires=1` },
      "ARGUMENT_INVALID",
    ],
    "a body in chunks that version 4 signs": [
      withHeaders({ "x-amz-content-sha256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" }),
      "ACCESS_DENIED",
    ],
  };
  for (const [name, [changed, code]] of Object.entries(bad)) {
    test(`with ${name} is refused`, () => equal(codeAt(changed, {}, now), code));
  }

  test("under another bucket's host is refused", () => {
    equal(codeAt(request, { hostBucket: "other" }, now), "SIGNATURE_MISMATCH");
  });

  test("holds for 15 minutes before and after", () => {
    const minutes = 15 * 60_000;
    for (const at of [now - minutes, now + minutes]) equal(codeAt(request, {}, at), "none");
    for (const at of [now - minutes - 1, now + minutes + 1]) equal(codeAt(request, {}, at), "TIME_SKEWED");
  });

  test("is refused where it is not asked for, and names no service", () => {
    equal(
      codeOf(() => verifyRequest(request, { ...options, now })),
      "VERSION_UNSUPPORTED",
    );
    equal(scopeOf(request), undefined);
  });

  test("may call its time UTC, as rclone does", () => {
    const date = "Tue, 27 Mar 2007 21:20:26 UTC";
    const signed = { method: "GET", target: "/b/k", headers: { date, ...auth(`GET\n\n\n${date}\n/b/k`) } };
    equal(codeAt(signed, {}, now), "none");
  });

  test("is dated by x-amz-date alone where that is there", () => {
    const date = "Tue, 27 Mar 2007 21:20:26 +0000";
    const text = `DELETE\n\n\n\nx-amz-date:${date}\n/johnsmith/a`;
    const headers = { date: "Tue, 27 Mar 2007 23:59:59 +0000", "x-amz-date": date };
    const signed = { method: "DELETE", target: "/johnsmith/a", headers: { ...headers, ...auth(text) } };
    equal(codeAt(signed, {}, now), "none");
  });

  test("for a bucket may be signed with a slash at its end, as botocore does", () => {
    const date = "Tue, 27 Mar 2007 21:20:26 +0000";
    for (const path of ["/b", "/b/"]) {
      const headers = { date, ...auth(`GET\n\n\n${date}\n${path}?acl`) };
      equal(codeAt({ method: "GET", target: "/b?acl", headers }, {}, now), "none");
    }
    const headers = { date, ...auth(`GET\n\n\n${date}\n/b/k/`) };
    equal(codeAt({ method: "GET", target: "/b/k", headers }, {}, now), "SIGNATURE_MISMATCH");
  });

  test("keeps white space within a header and knows its text as UTF-8", () => {
    const text = "PUT\n\n\nTue, 27 Mar 2007 21:20:26 +0000\nx-amz-meta-a:b  cé\n/b/k";
    const headers = { date: "Tue, 27 Mar 2007 21:20:26 +0000", ...auth(text) };
    for (const value of ["b  cé", Buffer.from("b  cé").toString("latin1")]) {
      const signed = { method: "PUT", target: "/b/k", headers: { ...headers, "x-amz-meta-a": ` ${value} ` } };
      equal(codeAt(signed, {}, now), "none");
    }
  });
});

const sign = (text: string) => createHmac("sha1", secret).update(text).digest("base64");
const auth = (text: string) => ({ authorization: `AWS ${accessKeyId}:${sign(text)}` });

describe("a link signed by version 2", () => {
  const host = { host: "127.0.0.1:8443" };
  const link = (method: string, path: string, query: string, text: string): RequestShape => ({
    method,
    target: `${path}?${query}${query === "" ? "" : "&"}AWSAccessKeyId=${accessKeyId}&Expires=1000&Signature=${encodeURIComponent(sign(text))}`,
    headers: host,
  });
  const get = link(
    "GET",
    "/b/k%20x",
    "response-content-type=text%2Fplain%3B%20a&versionId=v%2B1",
    "GET\n\n\n1000\n/b/k%20x?response-content-type=text/plain; a&versionId=v+1",
  );
  const put = link(
    "PUT",
    "/b/k",
    "x-amz-acl=public-read&content-type=text%2Fx",
    "PUT\n\ntext/x\n1000\nx-amz-acl:public-read\n/b/k",
  );

  test("covers versions and the headers of the answer, decoded", () => equal(codeAt(get, {}, 0), "none"));

  test("covers the headers that are in the query", () => {
    equal(codeAt(put, {}, 0), "none");
    equal(codeAt({ ...put, headers: { ...host, "x-amz-acl": "public-read" } }, {}, 0), "none");
  });

  const bad: Record<string, [RequestShape, string]> = {
    "another header of the answer": [
      { ...get, target: get.target.replace("plain", "html") },
      "SIGNATURE_MISMATCH",
    ],
    "a header of the answer more": [
      { ...get, target: `${get.target}&response-expires=0` },
      "SIGNATURE_MISMATCH",
    ],
    "another expiry": [{ ...get, target: get.target.replace("=1000", "=1001") }, "SIGNATURE_MISMATCH"],
    "another header than in the query": [
      { ...put, headers: { ...host, "x-amz-acl": "private" } },
      "SIGNATURE_MISMATCH",
    ],
    "a header in the query more": [{ ...put, target: `${put.target}&X-Amz-Meta-A=b` }, "SIGNATURE_MISMATCH"],
    "a header in the query twice": [
      { ...put, target: `${put.target}&X-Amz-Acl=private` },
      "SIGNATURE_MISMATCH",
    ],
    "no expiry": [{ ...get, target: get.target.replace("Expires=1000&", "") }, "ACCESS_DENIED"],
    "two expiries": [{ ...get, target: `${get.target}&Expires=2000` }, "ACCESS_DENIED"],
    "no key": [{ ...get, target: get.target.replace("AWSAccessKeyId", "other") }, "ACCESS_DENIED"],
    "no signature": [{ ...get, target: get.target.replace(/Signature=.*/, "") }, "ACCESS_DENIED"],
    "an empty signature": [
      { ...get, target: get.target.replace(/Signature=.*/, "Signature=") },
      "ACCESS_DENIED",
    ],
    "an expiry that is no number": [{ ...get, target: get.target.replace("=1000", "=1e9") }, "ACCESS_DENIED"],
    "an expiry beyond all time": [
      { ...get, target: get.target.replace("=1000", `=1${"0".repeat(30)}`) },
      "ACCESS_DENIED",
    ],
    "an unknown key": [
      { ...get, target: get.target.replace(accessKeyId, "AKIAOTHER") },
      "ACCESS_KEY_UNKNOWN",
    ],
    "a session token": [{ ...get, target: `${get.target}&x-amz-security-token=x` }, "TOKEN_INVALID"],
    "version 4 beside it": [{ ...get, target: `${get.target}&X-Amz-Signature=x` }, "ARGUMENT_INVALID"],
  };
  for (const [name, [changed, code]] of Object.entries(bad)) {
    test(`with ${name} is refused`, () => equal(codeAt(changed, {}, 0), code));
  }
});
