import { decodeUri, headerValue, queryPairs, splitTarget } from "./canonical.ts";
import { fail } from "./errors.ts";
import { algorithm } from "./keys.ts";
import { parseTimestamp, readTime, type SignedTime } from "./time.ts";
import type { RequestShape, Scope } from "./types.ts";
import { type ClaimV2, readHeaderV2, readQueryV2 } from "./v2.ts";

/** What a request says of its own signature, read and checked for form; nothing is verified yet. */
export interface Claim extends SignedTime {
  version: 4;
  form: "header" | "presigned";
  scope: Scope;
  signedHeaders: string[];
  signature: string;
  /** Of a presigned request. */
  expiresSeconds?: number;
  path: string;
  /** Canonically encoded, without the signature itself. */
  query: (readonly [string, string])[];
}

const longestExpirySeconds = 604_800;
const tokenHeader = "x-amz-security-token";
type Malformed = (why: string) => Error;

/** Undefined where the request is not signed at all. */
export function readClaim(request: RequestShape): Claim | ClaimV2 | undefined {
  const { path, query } = splitTarget(request.target);
  const pairs = queryPairs(query);
  const inQuery = pairs.some(([name]) => /^X-Amz-(Algorithm|Credential|Signature)$/.test(name));
  const inQueryV2 = pairs.some(([name]) => name === "AWSAccessKeyId" || name === "Signature");
  const { authorization } = request.headers;
  if (Number(authorization !== undefined) + Number(inQuery) + Number(inQueryV2) > 1) {
    throw fail("ARGUMENT_INVALID", {
      why: "Only one auth mechanism allowed: the Authorization header, or a signature in the query",
    });
  }
  if (request.headers[tokenHeader] !== undefined) throw fail("TOKEN_INVALID");
  if (authorization !== undefined) {
    const text = headerValue(authorization);
    return /^AWS(?: |$)/.test(text) ? readHeaderV2(request, text) : readHeader(request, text, path, pairs);
  }
  if (inQuery) return readQuery(path, pairs);
  return inQueryV2 ? readQueryV2(pairs) : undefined;
}

function readHeader(request: RequestShape, text: string, path: string, query: Claim["query"]): Claim {
  const malformed: Malformed = (why) => fail("HEADER_MALFORMED", { why });
  const space = text.indexOf(" ");
  const scheme = space < 0 ? text : text.slice(0, space);
  if (scheme !== algorithm) throw wrongScheme(scheme, text);
  const fields = new Map<string, string>();
  for (const part of text.slice(space + 1).split(",")) {
    const field = part.trim();
    const equals = field.indexOf("=");
    if (equals <= 0) throw malformed("it is not a list of NAME=VALUE");
    const name = field.slice(0, equals);
    if (fields.has(name)) throw malformed(`it has ${name.slice(0, 40)} twice`);
    fields.set(name, field.slice(equals + 1));
  }
  const field = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined || value === "") throw malformed(`it has no ${name}`);
    return value;
  };
  const scope = readScope(field("Credential"), malformed);
  const signedHeaders = readSignedHeaders(field("SignedHeaders"), malformed);
  const signature = field("Signature");
  const time = readTime(request);
  if (!time.timestamp.startsWith(scope.date)) {
    throw malformed(`the credential's date ${scope.date} is not that of the request, ${time.timestamp}`);
  }
  return { version: 4, form: "header", scope, signedHeaders, signature, ...time, path, query };
}

function wrongScheme(scheme: string, text: string): Error {
  if (text === "") return fail("ACCESS_DENIED", { why: "the Authorization header is empty" });
  if (/^AWS4-[A-Z0-9-]+$/.test(scheme)) return fail("ALGORITHM_UNSUPPORTED", { algorithm: scheme });
  return fail("ARGUMENT_INVALID", { why: "Unsupported Authorization Type" });
}

function readQuery(path: string, pairs: [string, string][]): Claim {
  const malformed: Malformed = (why) => fail("QUERY_MALFORMED", { why });
  const fields = new Map<string, string>();
  for (const [name, value] of pairs) {
    if (!name.startsWith("X-Amz-")) continue;
    if (fields.has(name)) throw malformed(`the query has ${name.slice(0, 40)} twice`);
    fields.set(name, decodeUri(value).toString("latin1"));
  }
  const field = (name: string): string => {
    const value = fields.get(name);
    if (value === undefined || value === "") throw malformed(`the query has no ${name}`);
    return value;
  };
  const given = field("X-Amz-Algorithm");
  if (given !== algorithm) throw malformed(`X-Amz-Algorithm must be ${algorithm}`);
  if (fields.has("X-Amz-Security-Token")) throw fail("TOKEN_INVALID");
  const scope = readScope(field("X-Amz-Credential"), malformed);
  const timestamp = field("X-Amz-Date");
  const signedAt = parseTimestamp(timestamp);
  if (signedAt === undefined) throw malformed("X-Amz-Date must be a time as 20130524T000000Z");
  if (!timestamp.startsWith(scope.date)) {
    throw malformed(`the credential's date ${scope.date} is not that of X-Amz-Date, ${timestamp}`);
  }
  const expires = field("X-Amz-Expires");
  const expiresSeconds = /^\d{1,6}$/.test(expires) ? Number(expires) : 0;
  if (expiresSeconds < 1 || expiresSeconds > longestExpirySeconds) {
    throw fail("EXPIRES_INVALID", { value: expires.slice(0, 40) });
  }
  return {
    version: 4,
    form: "presigned",
    scope,
    signedHeaders: readSignedHeaders(field("X-Amz-SignedHeaders"), malformed),
    signature: field("X-Amz-Signature"),
    timestamp,
    signedAt,
    expiresSeconds,
    path,
    query: pairs.filter(([name]) => name !== "X-Amz-Signature"),
  };
}

/** `KEY/YYYYMMDD/REGION/SERVICE/aws4_request`; the key's own name may have slashes. */
export function readScope(credential: string, malformed: Malformed): Scope {
  const parts = credential.split("/");
  if (parts.length < 5) throw malformed("the credential is not KEY/YYYYMMDD/REGION/SERVICE/aws4_request");
  const [date = "", region = "", service = "", end = ""] = parts.slice(-4);
  if (end !== "aws4_request") throw malformed("the credential does not end with aws4_request");
  if (!/^\d{8}$/.test(date)) throw malformed("the credential's date is not YYYYMMDD");
  if (!/^[\w.-]{1,64}$/.test(region)) throw malformed("the credential's region is not a name");
  if (!/^[\w.-]{1,64}$/.test(service)) throw malformed("the credential's service is not a name");
  const accessKeyId = parts.slice(0, -4).join("/");
  if (accessKeyId === "" || accessKeyId.length > 128) throw malformed("the credential has no access key");
  return { accessKeyId, date, region, service };
}

function readSignedHeaders(text: string, malformed: Malformed): string[] {
  const names = text.split(";");
  const seen = new Set(names);
  if (seen.size !== names.length) throw malformed("a signed header is named twice");
  if (names.some((name) => !/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name))) {
    throw malformed("the names of signed headers are not in lower case");
  }
  if (!seen.has("host")) throw malformed("the header host is not signed");
  return names;
}
