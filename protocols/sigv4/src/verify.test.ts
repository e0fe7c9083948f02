import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { hash } from "node:crypto";
import { describe, test } from "node:test";
import { SkepError } from "@skep/base";
import { seeded } from "@skep/base/testing";
import {
  anonymousPayload,
  presign,
  type RequestShape,
  SigningKeys,
  scopeOf,
  signRequest,
  verifyRequest,
} from "./index.ts";
import {
  accessKeyId,
  codeOf,
  credentials,
  emptySha256,
  host,
  now,
  options,
  region,
  signed,
  welcome,
} from "./test-requests.ts";

describe("a signature", () => {
  const get = signed({ method: "GET", target: "/bucket/key?versionId=1", headers: { host } }, emptySha256);
  const withHeaders = (headers: Record<string, string | undefined>, request = get): RequestShape => ({
    ...request,
    headers: { ...request.headers, ...headers },
  });
  const authorization = get.headers.authorization as string;
  const auth = (from: string | RegExp, to: string) =>
    withHeaders({ authorization: authorization.replace(from, to) });

  const bad: Record<string, [RequestShape, string]> = {
    "another method": [{ ...get, method: "DELETE" }, "SIGNATURE_MISMATCH"],
    "another path": [{ ...get, target: "/bucket/kez?versionId=1" }, "SIGNATURE_MISMATCH"],
    "another query": [{ ...get, target: "/bucket/key?versionId=2" }, "SIGNATURE_MISMATCH"],
    "a query parameter more": [{ ...get, target: "/bucket/key?versionId=1&acl" }, "SIGNATURE_MISMATCH"],
    "another host": [withHeaders({ host: "other" }), "SIGNATURE_MISMATCH"],
    "another payload": [withHeaders({ "x-amz-content-sha256": welcome }), "SIGNATURE_MISMATCH"],
    "a payload that is no digest": [withHeaders({ "x-amz-content-sha256": "abc" }), "ARGUMENT_INVALID"],
    "no payload": [withHeaders({ "x-amz-content-sha256": undefined }), "REQUEST_INVALID"],
    "an x-amz header that is not signed": [withHeaders({ "x-amz-acl": "public-read" }), "ACCESS_DENIED"],
    "a signature cut short": [auth(/.$/, ""), "SIGNATURE_MISMATCH"],
    "a signature with one bit changed": [
      auth(/.$/, authorization.endsWith("0") ? "1" : "0"),
      "SIGNATURE_MISMATCH",
    ],
    "no signature": [auth(/,Signature=.*/, ""), "HEADER_MALFORMED"],
    "an empty signature": [auth(/Signature=.*/, "Signature="), "HEADER_MALFORMED"],
    "two signatures": [auth(/$/, `,Signature=${"0".repeat(64)}`), "HEADER_MALFORMED"],
    "no signed headers": [auth(/SignedHeaders=[^,]*,/, ""), "HEADER_MALFORMED"],
    "a host that is not signed": [auth("host;", ""), "HEADER_MALFORMED"],
    "a signed header named twice": [auth("host;", "host;host;"), "HEADER_MALFORMED"],
    "a date that is not signed": [auth(";x-amz-date", ""), "ACCESS_DENIED"],
    "an unknown key": [auth(accessKeyId, "AKIAOTHER"), "ACCESS_KEY_UNKNOWN"],
    "no key": [auth(accessKeyId, ""), "HEADER_MALFORMED"],
    "a scope cut short": [auth("/aws4_request", ""), "HEADER_MALFORMED"],
    "another end of scope": [auth("aws4_request", "aws4_other"), "HEADER_MALFORMED"],
    "another date in the scope": [auth("/20130524/", "/20130525/"), "HEADER_MALFORMED"],
    "a scope without region": [auth("/us-east-1/", "//"), "HEADER_MALFORMED"],
    "another service": [auth("/s3/", "/ec2/"), "HEADER_MALFORMED"],
    "another region than it was made for": [auth("/us-east-1/", "/eu-west-1/"), "SIGNATURE_MISMATCH"],
    "an empty header": [withHeaders({ authorization: "" }), "ACCESS_DENIED"],
    "another scheme": [withHeaders({ authorization: "Basic YTpi" }), "ARGUMENT_INVALID"],
    "version 2": [withHeaders({ authorization: "AWS key:c2lnbmF0dXJl" }), "VERSION_UNSUPPORTED"],
    "version 2 in the query": [
      { ...get, target: "/b/k?AWSAccessKeyId=a&Signature=b&Expires=1", headers: { host } },
      "VERSION_UNSUPPORTED",
    ],
    "something like version 2": [withHeaders({ authorization: "AWS HAHAHA" }), "ARGUMENT_INVALID"],
    "an asymmetric algorithm": [auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), "ALGORITHM_UNSUPPORTED"],
    "a session token": [withHeaders({ "x-amz-security-token": "x" }), "TOKEN_INVALID"],
    "no date": [withHeaders({ "x-amz-date": undefined }), "ACCESS_DENIED"],
    "a date that is none": [withHeaders({ "x-amz-date": "Bad Date" }), "ACCESS_DENIED"],
    "a date that does not exist": [withHeaders({ "x-amz-date": "20130231T000000Z" }), "ACCESS_DENIED"],
    "a month that does not exist": [withHeaders({ "x-amz-date": "20130024T000000Z" }), "ACCESS_DENIED"],
    "an hour that does not exist": [withHeaders({ "x-amz-date": "20130523T240000Z" }), "ACCESS_DENIED"],
    "header and query": [{ ...get, target: "/b/k?X-Amz-Signature=1" }, "ARGUMENT_INVALID"],
  };
  for (const [name, [request, code]] of Object.entries(bad)) {
    test(`with ${name} is refused`, () =>
      equal(
        codeOf(() => verifyRequest(request, options)),
        code,
      ));
  }

  test("is refused outside of the region that is configured", () => {
    equal(
      codeOf(() => verifyRequest(get, { ...options, region: "eu-west-1" })),
      "HEADER_MALFORMED",
    );
  });

  test("holds for 15 minutes before and after", () => {
    const minute = 60_000;
    for (const skew of [-15 * minute, 15 * minute]) ok(verifyRequest(get, { ...options, now: now + skew }));
    for (const skew of [-15 * minute - 1, 15 * minute + 1]) {
      equal(
        codeOf(() => verifyRequest(get, { ...options, now: now + skew })),
        "TIME_SKEWED",
      );
    }
  });

  test("may carry its date in the Date header, as botocore signs where one is set", () => {
    const request = {
      method: "PUT",
      target: "/foo",
      headers: {
        host,
        date: "Fri, 24 May 2013 00:00:00 -0000",
        "x-amz-content-sha256": hash("sha256", "bar", "hex"),
        authorization: `AWS4-HMAC-SHA256 Credential=${accessKeyId}/20130524/us-east-1/s3/aws4_request, SignedHeaders=date;host;x-amz-content-sha256, Signature=ef6eabdadb868113079aa9c22d05d56796b7b53870131ec4fb5738841bc794bd`,
      },
    };
    ok(verifyRequest(request, options));
    for (const date of ["yesterday", "Fri, 24 May 1950 00:00:00 GMT", "Fri, 99 May 2013 00:00:00 GMT"]) {
      equal(
        codeOf(() => verifyRequest(withHeaders({ date }, request), options)),
        "ACCESS_DENIED",
      );
    }
  });

  test("is none where nothing is signed", () => {
    equal(
      verifyRequest({ method: "GET", target: "/b/k?list-type=2", headers: { host } }, options),
      undefined,
    );
  });

  test("tells its service before it is verified", () => {
    equal(scopeOf(auth("/s3/", "/ec2/"))?.service, "ec2");
    equal(scopeOf({ method: "GET", target: "/", headers: {} }), undefined);
  });

  test("of another service covers a body that is there already", () => {
    const body = "Action=DescribeInstances";
    const sha256 = hash("sha256", body, "hex");
    const request = { method: "POST", target: "/", headers: { host } };
    const { headers } = signRequest(request, credentials, { region, now, service: "ec2", payload: sha256 });
    const full = { ...request, headers: { host, ...headers } };
    equal(verifyRequest(full, { ...options, services: ["ec2"], bodySha256: sha256 })?.service, "ec2");
  });

  test("covers the bytes of a key however it is escaped, and never normalises a path", () => {
    const forms = ["/b/a%20b%2B%28c%29", "/b/a%20b+(c)", "/b/a%20b%2b(c%29"];
    for (const target of forms) {
      const { headers } = signed({ method: "GET", target: forms[0] as string, headers: { host } });
      ok(verifyRequest({ method: "GET", target, headers }, options), target);
    }
    const dots = signed({ method: "GET", target: "/b/a//../c/./d", headers: { host } });
    ok(verifyRequest(dots, options));
    equal(
      codeOf(() => verifyRequest({ ...dots, target: "/b/c/d" }, options)),
      "SIGNATURE_MISMATCH",
    );
  });

  test("folds white space in headers, and reads their bytes as they are or as text", () => {
    const request = { method: "GET", target: "/", headers: { host, "x-amz-meta-a": "  one   two\t three " } };
    const { headers } = signed(request);
    ok(verifyRequest({ ...request, headers: { ...headers, "x-amz-meta-a": "one two three" } }, options));
    const utf8 = signed({ ...request, headers: { host, "x-amz-meta-a": "\u00e0 la carte \u00c3\u00a0" } });
    ok(verifyRequest(utf8, options));
    const bytes = Buffer.from("voilà").toString("latin1");
    ok(verifyRequest(signed({ ...request, headers: { host, "x-amz-meta-a": bytes } }), options));
  });

  test("is made anew when a secret is another", () => {
    const keys = new SigningKeys(2);
    ok(verifyRequest(get, { ...options, keys }));
    ok(verifyRequest(get, { ...options, keys }));
    equal(
      codeOf(() => verifyRequest(get, { ...options, keys, lookup: () => ({ secret: "other" }) })),
      "SIGNATURE_MISMATCH",
    );
    ok(verifyRequest(get, { ...options, keys }));
  });

  test("survives the round trip for any request", () => {
    const below = seeded(7);
    const text = (length: number) =>
      Array.from({ length: below(length) }, () => String.fromCodePoint(32 + below(0x2000))).join("");
    for (let round = 0; round < 300; round += 1) {
      const key = encodeURIComponent(text(20)).replaceAll("%2F", "/");
      const query = Array.from(
        { length: below(5) },
        () => `${encodeURIComponent(text(6))}${below(2) ? `=${encodeURIComponent(text(9))}` : ""}`,
      ).join("&");
      const request = {
        method: ["GET", "PUT", "DELETE"][below(3)] as string,
        target: `/bucket/${key}${query === "" ? "" : `?${query}`}`,
        headers: { host, "x-amz-meta-x": text(12).replace(/[^\x20-\xff]/g, ""), "content-type": "a/b" },
      };
      ok(verifyRequest(signed(request), options), request.target);
      const target = presign(request, credentials, { region, now, expiresSeconds: 60 });
      ok(verifyRequest({ ...request, target }, options), target);
      const at = below(target.length);
      const changed = `${target.slice(0, at)}${target[at] === "x" ? "y" : "x"}${target.slice(at + 1)}`;
      throws(
        () => {
          const verified = verifyRequest({ ...request, target: changed }, options);
          if (verified === undefined) throw new SkepError("NONE", "not signed any more");
        },
        SkepError,
        changed,
      );
    }
  });

  test("made of garbage is refused with an error of ours", () => {
    const below = seeded(11);
    const pieces = authorization.split(/(?=[ ,=/;])/);
    for (let round = 0; round < 3000; round += 1) {
      const mutated = [...pieces];
      for (let change = 0; change <= below(3); change += 1) {
        mutated.splice(below(mutated.length), below(3), below(2) ? "" : String.fromCharCode(below(256)));
      }
      const text = mutated.join("");
      if (text === authorization) continue;
      const code = codeOf(() => verifyRequest(withHeaders({ authorization: text }), options));
      // What is read the same is the same: white space, an order, or a part that means nothing.
      if (code === "none") ok(text.includes("Signature="), text);
    }
  });
});

describe("a presigned request", () => {
  const request = { method: "GET", target: "/bucket/key", headers: { host } };
  const target = presign(request, credentials, { region, now, expiresSeconds: 60 });
  const code = (changed: string, at = now, headers: Record<string, string> = { host }) =>
    codeOf(() => verifyRequest({ ...request, target: changed, headers }, { ...options, now: at }));

  test("holds until it expires, and not before its time", () => {
    equal(code(target, now + 60_000), "none");
    equal(code(target, now + 60_001), "SIGNATURE_EXPIRED");
    equal(code(target, now - 15 * 60_000), "none");
    equal(code(target, now - 15 * 60_000 - 1), "ACCESS_DENIED");
  });

  test("demands an expiry of 1 second to 7 days", () => {
    for (const value of ["0", "-7", "604801", "1e3", "x", "99999999999"]) {
      equal(code(target.replace("Expires=60", `Expires=${value}`)), "EXPIRES_INVALID", value);
    }
    equal(code(target.replace("Expires=60", "Expires=604800")), "SIGNATURE_MISMATCH");
    equal(code(target.replace("Expires=60", "Expires=")), "QUERY_MALFORMED");
  });

  test("is refused with a parameter missing, twice or wrong", () => {
    for (const name of ["Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"]) {
      const parameter = new RegExp(`[?&]X-Amz-${name}=[^&]*`);
      equal(code(target.replace(parameter, (found) => (found[0] === "?" ? "?a=" : ""))), "QUERY_MALFORMED");
      equal(code(`${target}${parameter.exec(target)?.[0].replace("?", "&")}`), "QUERY_MALFORMED", name);
    }
    equal(code(target.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")), "QUERY_MALFORMED");
    equal(code(target.replace("20130524T000000Z", "20130524T0000")), "QUERY_MALFORMED");
    equal(code(target.replace("%2Fs3%2F", "%2Fec2%2F")), "QUERY_MALFORMED");
    equal(code(`${target}&X-Amz-Security-Token=x`), "TOKEN_INVALID");
    equal(code(`${target}&response-content-type=a`), "SIGNATURE_MISMATCH");
    equal(code(target, now, { host, "x-amz-acl": "public-read" }), "ACCESS_DENIED");
  });

  test("may bind headers and the body's digest", () => {
    const headers = { host, "x-amz-content-sha256": welcome, "content-type": "text/plain" };
    const put = { method: "PUT", target: "/bucket/key", headers };
    const bound = presign(put, credentials, { region, now, expiresSeconds: 60, payload: welcome });
    deepEqual(verifyRequest({ ...put, target: bound }, options)?.payload, {
      kind: "digest",
      sha256: welcome,
    });
    equal(
      codeOf(() =>
        verifyRequest({ ...put, target: bound, headers: { ...headers, "content-type": "a/b" } }, options),
      ),
      "SIGNATURE_MISMATCH",
    );
  });
});

describe("a request without signature", () => {
  test("may frame its body, but not sign the chunks", () => {
    const payload = (text: string) =>
      anonymousPayload({ method: "PUT", target: "/", headers: { "x-amz-content-sha256": text } });
    deepEqual(payload("STREAMING-UNSIGNED-PAYLOAD-TRAILER"), {
      kind: "chunked",
      signed: false,
      trailer: true,
    });
    deepEqual(payload(welcome), { kind: "digest", sha256: welcome });
    equal(
      codeOf(() => payload("STREAMING-AWS4-HMAC-SHA256-PAYLOAD")),
      "ACCESS_DENIED",
    );
    equal(
      codeOf(() => payload("STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD")),
      "ALGORITHM_UNSUPPORTED",
    );
  });
});
