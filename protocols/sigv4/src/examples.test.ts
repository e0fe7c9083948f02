import { deepEqual, equal, ok } from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import { presign, type RequestShape, verifyPost, verifyRequest } from "./index.ts";
import {
  accessKeyId,
  codeOf,
  credentials,
  emptySha256,
  host,
  now,
  options,
  region,
  welcome,
} from "./test-requests.ts";

function published(
  method: string,
  target: string,
  headers: Record<string, string>,
  payload: string,
  signedHeaders: string,
  signature: string,
): RequestShape {
  return {
    method,
    target,
    headers: {
      host,
      "x-amz-date": "20130524T000000Z",
      "x-amz-content-sha256": payload,
      ...headers,
      authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20130524/us-east-1/s3/aws4_request,SignedHeaders=${signedHeaders},Signature=${signature}`,
    },
  };
}

const examples: Record<string, RequestShape> = {
  "GET object": published(
    "GET",
    "/test.txt",
    { range: "bytes=0-9" },
    emptySha256,
    "host;range;x-amz-content-sha256;x-amz-date",
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  ),
  "PUT object": published(
    "PUT",
    "/test$file.text",
    { date: "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY" },
    welcome,
    "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
  ),
  "GET bucket lifecycle": published(
    "GET",
    "/?lifecycle",
    {},
    emptySha256,
    "host;x-amz-content-sha256;x-amz-date",
    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
  ),
  "list objects": published(
    "GET",
    "/?max-keys=2&prefix=J",
    {},
    emptySha256,
    "host;x-amz-content-sha256;x-amz-date",
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
  ),
};

/** The request of the published chunked uploads. */
function chunkedExample(trailer: boolean): RequestShape {
  return published(
    "PUT",
    "/examplebucket/chunkObject.txt",
    {
      host: "s3.amazonaws.com",
      "x-amz-storage-class": "REDUCED_REDUNDANCY",
      "content-encoding": "aws-chunked",
      "x-amz-decoded-content-length": "66560",
      ...(trailer ? { "x-amz-trailer": "x-amz-checksum-crc32c" } : { "content-length": "66824" }),
    },
    `STREAMING-AWS4-HMAC-SHA256-PAYLOAD${trailer ? "-TRAILER" : ""}`,
    trailer
      ? "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer"
      : "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class",
    trailer
      ? "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
      : "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
  );
}

describe("the published examples", () => {
  for (const [name, request] of Object.entries(examples)) {
    test(name, () => {
      const verified = verifyRequest(request, options);
      equal(verified?.accessKeyId, accessKeyId);
      equal(verified?.form, "header");
      equal(verified?.region, region);
      deepEqual(verified?.payload, { kind: "digest", sha256: request.headers["x-amz-content-sha256"] });
    });
  }

  test("PUT in signed chunks, with and without trailer", () => {
    const plain = verifyRequest(chunkedExample(false), options)?.payload;
    ok(plain?.kind === "chunked" && plain.signed && !plain.trailer);
    const chunk = (size: number) => hash("sha256", "a".repeat(size), "hex");
    deepEqual(
      [65_536, 1024, 0].map((size) => plain.signer?.next(chunk(size))),
      [
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
      ],
    );
    const trailing = verifyRequest(chunkedExample(true), options)?.payload;
    ok(trailing?.kind === "chunked" && trailing.signed && trailing.trailer);
    deepEqual(
      [65_536, 1024, 0].map((size) => trailing.signer?.next(chunk(size))),
      [
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
      ],
    );
    equal(
      trailing.signer?.trailer(hash("sha256", "x-amz-checksum-crc32c:sOO8/Q==\n", "hex")),
      "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
    );
  });

  test("presigned GET", () => {
    const target = presign({ method: "GET", target: "/test.txt", headers: { host } }, credentials, {
      region,
      now,
      expiresSeconds: 86_400,
    });
    ok(target.endsWith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"));
    const verified = verifyRequest({ method: "GET", target, headers: { host } }, options);
    equal(verified?.form, "presigned");
    deepEqual(verified?.payload, { kind: "unsigned" });
  });

  test("POST form", () => {
    const policy = Buffer.from(
      [
        '{ "expiration": "2015-12-30T12:00:00.000Z",',
        '  "conditions": [',
        '    {"bucket": "sigv4examplebucket"},',
        '    ["starts-with", "$key", "user/user1/"],',
        '    {"acl": "public-read"},',
        '    {"success_action_redirect": "http://sigv4examplebucket.s3.amazonaws.com/successful_upload.html"},',
        '    ["starts-with", "$Content-Type", "image/"],',
        '    {"x-amz-meta-uuid": "14365123651274"},',
        '    {"x-amz-server-side-encryption": "AES256"},',
        '    ["starts-with", "$x-amz-meta-tag", ""],',
        "",
        '    {"x-amz-credential": "AKIAIOSFODNN7EXAMPLE/20151229/us-east-1/s3/aws4_request"},',
        '    {"x-amz-algorithm": "AWS4-HMAC-SHA256"},',
        '    {"x-amz-date": "20151229T000000Z" }',
        "  ]",
        "}",
      ].join("\r\n"),
    ).toString("base64");
    const form = {
      policy,
      "x-amz-algorithm": "AWS4-HMAC-SHA256",
      "x-amz-credential": `${accessKeyId}/20151229/us-east-1/s3/aws4_request`,
      "x-amz-date": "20151229T000000Z",
      "x-amz-signature": "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e",
    };
    equal(verifyPost(form, options)?.form, "post");
    const code = (fields: Record<string, string | undefined>) => codeOf(() => verifyPost(fields, options));
    equal(code({ ...form, policy: policy.replace("e", "f") }), "SIGNATURE_MISMATCH");
    equal(code({ ...form, policy: undefined }), "FORM_MALFORMED");
    equal(code({ ...form, "x-amz-signature": "" }), "FORM_MALFORMED");
    equal(code({ ...form, "x-amz-date": "20151230T000000Z" }), "FORM_MALFORMED");
    equal(
      code({ ...form, "x-amz-credential": "other/20151229/us-east-1/s3/aws4_request" }),
      "ACCESS_KEY_UNKNOWN",
    );
    equal(verifyPost({ key: "x" }, options), undefined);
  });
});

describe("a form signed by version 2", () => {
  test("is verified, as S3 does", () => {
    // openssl: printf 'cG9saWN5' | openssl dgst -sha1 -hmac SECRET -binary | base64
    const form = { policy: "cG9saWN5", awsaccesskeyid: accessKeyId };
    equal(
      codeOf(() => verifyPost({ ...form, signature: "AAAA" }, options)),
      "SIGNATURE_MISMATCH",
    );
    equal(
      codeOf(() => verifyPost(form, options)),
      "FORM_MALFORMED",
    );
    equal(
      codeOf(() => verifyPost({ ...form, awsaccesskeyid: "x", signature: "AAAA" }, options)),
      "ACCESS_KEY_UNKNOWN",
    );
    const signature = "eL3OlIgXlaEdW8YOBw30RYKlweI=";
    equal(verifyPost({ ...form, signature }, options)?.form, "post");
  });
});
