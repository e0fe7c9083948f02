import { createHmac } from "node:crypto";
import { decodeUri, queryPairs, splitTarget } from "./canonical.ts";
import { fail } from "./errors.ts";
import { sameSignature } from "./keys.ts";
import { readTime, type SignedTime } from "./time.ts";
import type { RequestShape } from "./types.ts";

/**
 * AWS Signature Version 2 as S3 has it: HMAC-SHA1 of the method, three headers, all x-amz-* and the
 * resource. It covers neither host nor body, nor parameters such as `prefix`; tools still make links
 * with it. Source: the S3 API reference, "Signing and authenticating REST requests (AWS signature version 2)".
 */

export interface Version2 {
  /** The bucket that the host names (virtual-host-style): it is part of what is signed. */
  hostBucket?: string;
}

/** What a request says of its own signature; nothing is verified yet. */
export type ClaimV2 = { version: 2; accessKeyId: string; signature: string } & (
  | ({ form: "header" } & SignedTime)
  /** `expires`: seconds since 1970, as it stands in the query. */
  | { form: "presigned"; expires: string; expiresAt: number }
);

/**
 * Parameters that select what a request is about, or set headers of its answer. No other one is signed:
 * whoever has a link may add them.
 */
export const signedSubresources: ReadonlySet<string> = new Set([
  "abac",
  "accelerate",
  "acl",
  "analytics",
  "attributes",
  "cors",
  "defaultObjectAcl",
  "delete",
  "encryption",
  "intelligent-tiering",
  "inventory",
  "legal-hold",
  "lifecycle",
  "location",
  "logging",
  "metadataConfiguration",
  "metadataTable",
  "metrics",
  "notification",
  "object-lock",
  "ownershipControls",
  "partNumber",
  "policy",
  "policyStatus",
  "publicAccessBlock",
  "renameObject",
  "replication",
  "requestPayment",
  "response-cache-control",
  "response-content-disposition",
  "response-content-encoding",
  "response-content-language",
  "response-content-type",
  "response-expires",
  "restore",
  "retention",
  "select",
  "select-type",
  "session",
  "storageClass",
  "tagging",
  "torrent",
  "uploadId",
  "uploads",
  "versionId",
  "versioning",
  "versions",
  "website",
]);

/** `AWS KEY:SIGNATURE`. */
export function readHeaderV2(request: RequestShape, text: string): ClaimV2 {
  const match = /^AWS ([^:\s]{1,128}):(\S{1,128})$/.exec(text);
  if (match === null) {
    throw fail("ARGUMENT_INVALID", {
      why: "AWS authorization header is invalid: AccessKeyId:signature expected",
    });
  }
  const [, accessKeyId = "", signature = ""] = match;
  return { version: 2, form: "header", accessKeyId, signature, ...readTime(request) };
}

export function readQueryV2(pairs: readonly (readonly [name: string, value: string])[]): ClaimV2 {
  const field = (wanted: string): string => {
    const values = pairs.filter(([name]) => name === wanted);
    const value = values.length === 1 ? decodeUri(values[0]?.[1] ?? "").toString("latin1") : "";
    if (value !== "") return value;
    throw fail("ACCESS_DENIED", {
      why: "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters, once each",
    });
  };
  if (pairs.some(([name]) => name.toLowerCase() === "x-amz-security-token")) throw fail("TOKEN_INVALID");
  const accessKeyId = field("AWSAccessKeyId");
  const signature = field("Signature");
  const expires = field("Expires");
  if (!/^\d{1,11}$/.test(expires)) {
    throw fail("ACCESS_DENIED", {
      why: `Expires must be a time in seconds since 1970 and is ${expires.slice(0, 40)}`,
    });
  }
  return {
    version: 2,
    form: "presigned",
    accessKeyId,
    signature,
    expires,
    expiresAt: Number(expires) * 1000,
  };
}

/** Throws SIGNATURE_MISMATCH where the request is not the one that was signed with `secret`. */
export function verifySignatureV2(
  request: RequestShape,
  claim: ClaimV2,
  secret: string,
  { hostBucket }: Version2,
): void {
  const { path, query } = splitTarget(request.target);
  const parameters = readParameters(query);
  const signed = (resourcePath: string, encoding: "latin1" | "utf8") => {
    const text = stringToSign(request, claim, parameters) + canonicalResource(resourcePath, parameters);
    const signature = createHmac("sha1", secret).update(text, encoding).digest("base64");
    return sameSignature(signature, claim.signature);
  };
  const whole = hostBucket === undefined ? path : `/${hostBucket}${path}`;
  // botocore asks for `/bucket` and signs `/bucket/`, which mean the same.
  const paths = /^\/[^/]+$/.test(whole) ? [whole, `${whole}/`] : [whole];
  // Bytes of headers are shown as latin1; some clients sign their text as UTF-8 and send it as latin1.
  const same = paths.some((one) => signed(one, "latin1") || signed(one, "utf8"));
  if (!same) throw fail("SIGNATURE_MISMATCH", { what: "the request" });
}

/** All but the resource at its end. */
function stringToSign(request: RequestShape, claim: ClaimV2, parameters: readonly Parameter[]): string {
  const inQuery = claim.form === "presigned" ? headersInQuery(parameters) : new Map<string, string>();
  const header = (name: string) => textOf(request.headers[name]) ?? inQuery.get(name) ?? "";
  const dated = request.headers["x-amz-date"] !== undefined;
  const date = claim.form === "presigned" ? claim.expires : dated ? "" : header("date");
  const names = [...Object.keys(request.headers), ...inQuery.keys()].filter((name) =>
    name.startsWith("x-amz-"),
  );
  const amazon = [...new Set(names)].sort().map((name) => `${name}:${header(name)}\n`);
  return [request.method, header("content-md5"), header("content-type"), date, amazon.join("")].join("\n");
}

interface Parameter {
  /** Decoded; of the value its bytes, as latin1. */
  name: string;
  value: string;
  /** `name=`, be the value empty. */
  assigned: boolean;
}

function readParameters(query: string): Parameter[] {
  const parts = query.split("&").filter((part) => part !== "");
  return queryPairs(query).map(([name, value], at) => ({
    name: decodeUri(name).toString("latin1"),
    value: decodeUri(value).toString("latin1"),
    assigned: parts[at]?.includes("=") ?? false,
  }));
}

/** What botocore writes into a link instead of into headers; all values of one name, so that none is added. */
function headersInQuery(parameters: readonly Parameter[]): Map<string, string> {
  const headers = new Map<string, string>();
  for (const { name, value } of parameters) {
    const lower = name.toLowerCase();
    if (!/^(x-amz-|content-type$|content-md5$)/.test(lower)) continue;
    const before = headers.get(lower);
    headers.set(lower, before === undefined ? value.trim() : `${before},${value.trim()}`);
  }
  return headers;
}

/** The path as it stands on the request line, with the bucket, and the signed parameters after it. */
function canonicalResource(path: string, parameters: readonly Parameter[]): string {
  const signed = parameters
    .filter(({ name }) => signedSubresources.has(name))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0))
    .map(({ name, value, assigned }) => (assigned ? `${name}=${value}` : name));
  return signed.length === 0 ? path : `${path}?${signed.join("&")}`;
}

/** White space within stays as it is. */
function textOf(value: string | readonly string[] | undefined): string | undefined {
  if (value === undefined) return undefined;
  const trim = (text: string) => text.replace(/^[ \t]+|[ \t]+$/g, "");
  return typeof value === "string" ? trim(value) : value.map(trim).join(",");
}
