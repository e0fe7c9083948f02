import { decodeUri, headerValue, queryPairs, splitTarget } from "./canonical.ts";
import { fail } from "./errors.ts";
import { algorithm } from "./keys.ts";
import type { RequestShape, Scope } from "./types.ts";

/** What a request says of its own signature, read and checked for form; nothing is verified yet. */
export interface Claim {
  form: "header" | "presigned";
  scope: Scope;
  signedHeaders: string[];
  signature: string;
  /** YYYYMMDDTHHMMSSZ. */
  timestamp: string;
  signedAt: number;
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
export function readClaim(request: RequestShape): Claim | undefined {
  const { path, query } = splitTarget(request.target);
  const pairs = queryPairs(query);
  const inQuery = pairs.some(([name]) => /^X-Amz-(Algorithm|Credential|Signature)$/.test(name));
  const { authorization } = request.headers;
  if (authorization !== undefined && inQuery) {
    throw fail("ARGUMENT_INVALID", {
      why: "Only one auth mechanism allowed: the Authorization header, or X-Amz-* parameters in the query",
    });
  }
  if (request.headers[tokenHeader] !== undefined) throw fail("TOKEN_INVALID");
  if (authorization !== undefined) return readHeader(request, headerValue(authorization), path, pairs);
  if (inQuery) return readQuery(path, pairs);
  const has = (wanted: string) => pairs.some(([name]) => name === wanted);
  if (has("AWSAccessKeyId") && has("Signature")) throw fail("VERSION_UNSUPPORTED");
  return undefined;
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
  return { form: "header", scope, signedHeaders, signature, ...time, path, query };
}

function wrongScheme(scheme: string, text: string): Error {
  if (text === "") return fail("ACCESS_DENIED", { why: "the Authorization header is empty" });
  if (scheme === "AWS") {
    return /^AWS [^:]+:[^:]+$/.test(text)
      ? fail("VERSION_UNSUPPORTED")
      : fail("ARGUMENT_INVALID", {
          why: "AWS authorization header is invalid: AccessKeyId:signature expected",
        });
  }
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

/** x-amz-date, else Date; both may be there, and then the first counts. */
function readTime(request: RequestShape): Pick<Claim, "timestamp" | "signedAt"> {
  const text = headerValue(request.headers["x-amz-date"] ?? request.headers.date);
  const signedAt = parseTimestamp(text);
  if (signedAt !== undefined && signedAt >= 0) return { timestamp: text, signedAt };
  const written = parseHttpDate(text);
  if (written !== undefined && written >= 0)
    return { timestamp: formatTimestamp(written), signedAt: written };
  throw fail("ACCESS_DENIED", { why: "a valid x-amz-date or Date header is required" });
}

/** Milliseconds of `20130524T000000Z`. */
export function parseTimestamp(text: string): number | undefined {
  if (!/^\d{8}T\d{6}Z$/.test(text)) return undefined;
  const part = (from: number, to: number) => Number(text.slice(from, to));
  const [year, month, day, hour, minute, second] = [
    part(0, 4),
    part(4, 6),
    part(6, 8),
    part(9, 11),
    part(11, 13),
    part(13, 15),
  ] as const;
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  // What does not exist, as February 31st, would be taken for another time.
  const isSame =
    date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  const exists = isSame && hour < 24 && minute < 60 && second < 60;
  return exists ? date.getTime() : undefined;
}

export function formatTimestamp(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
}

/** RFC 9110, section 5.6.7, the one form that clients still send; botocore writes -0000 for GMT. */
function parseHttpDate(text: string): number | undefined {
  if (!/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|[+-]0000)$/.test(text))
    return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}
