import type { IncomingHttpHeaders } from "node:http";
import type { Condition, ObjectVersion } from "@skep/objects";
import { fail } from "./errors.ts";
import { httpDate } from "./object-headers.ts";

/**
 * Whether an object may be read as the request's conditions say (RFC 9110, section 13): PreconditionFailed,
 * or NotModified.
 */
export function checkReadConditions(headers: IncomingHttpHeaders, object: ObjectVersion): void {
  const ifMatch = headers["if-match"];
  const ifNoneMatch = headers["if-none-match"];
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, object.etag)) throw fail("PreconditionFailed", { Condition: "If-Match" });
  } else if (isModifiedSince(headers["if-unmodified-since"], object) === true) {
    throw fail("PreconditionFailed", { Condition: "If-Unmodified-Since" });
  }
  if (ifNoneMatch !== undefined) {
    if (matches(ifNoneMatch, object.etag)) throw notModified(object);
  } else if (isModifiedSince(headers["if-modified-since"], object) === false) {
    throw notModified(object);
  }
}

/** The same of a copy's source, where nothing is ever "not modified". */
export function checkSourceConditions(headers: IncomingHttpHeaders, object: ObjectVersion): void {
  const ifMatch = one(headers, "x-amz-copy-source-if-match");
  const ifNoneMatch = one(headers, "x-amz-copy-source-if-none-match");
  const failed = (name: string) => fail("PreconditionFailed", { Condition: `x-amz-copy-source-${name}` });
  if (ifMatch !== undefined) {
    if (!matches(ifMatch, object.etag)) throw failed("If-Match");
  } else if (isModifiedSince(one(headers, "x-amz-copy-source-if-unmodified-since"), object) === true) {
    throw failed("If-Unmodified-Since");
  }
  if (ifNoneMatch !== undefined) {
    if (matches(ifNoneMatch, object.etag)) throw failed("If-None-Match");
  } else if (isModifiedSince(one(headers, "x-amz-copy-source-if-modified-since"), object) === false) {
    throw failed("If-Modified-Since");
  }
}

/** What a write demands of the object that is there. */
export function writeCondition(headers: IncomingHttpHeaders): Condition | undefined {
  const { "if-match": ifMatch, "if-none-match": ifNoneMatch } = headers;
  if (ifMatch === undefined && ifNoneMatch === undefined) return undefined;
  return {
    ...(ifMatch === undefined ? {} : { ifMatch: bareETag(ifMatch) }),
    ...(ifNoneMatch === undefined ? {} : { ifNoneMatch: bareETag(ifNoneMatch) }),
  };
}

/** What a delete demands: also by time and size, as directory buckets have it. */
export function deleteCondition(headers: IncomingHttpHeaders): Condition | undefined {
  const ifMatch = headers["if-match"];
  const modified = one(headers, "x-amz-if-match-last-modified-time");
  const size = one(headers, "x-amz-if-match-size");
  if (ifMatch === undefined && modified === undefined && size === undefined) return undefined;
  return {
    ...(ifMatch === undefined ? {} : { ifMatch: bareETag(ifMatch) }),
    ...(modified === undefined ? {} : { ifModifiedAt: demandedTime(modified) }),
    ...(size === undefined ? {} : { ifSizeBytes: demandedSize(size) }),
  };
}

/** InvalidArgument where it is no time. */
export function demandedTime(text: string): number {
  const time = Date.parse(text);
  if (Number.isNaN(time)) throw fail("InvalidArgument", { why: "The time to match is not a date" });
  return time;
}

export function demandedSize(text: string): number {
  if (!/^\d{1,15}$/.test(text)) throw fail("InvalidArgument", { why: "The size to match is not a number" });
  return Number(text);
}

/** Without quotes and `W/`. */
export function bareETag(text: string): string {
  const tag = text.trim().replace(/^W\//, "");
  return tag.length > 1 && tag.startsWith('"') && tag.endsWith('"') ? tag.slice(1, -1) : tag;
}

/** A list of ETags, or `*`. */
function matches(header: string, etag: string): boolean {
  return header.split(",").some((one) => {
    const tag = bareETag(one);
    return tag === "*" || tag === etag;
  });
}

/** To the second, as HTTP's dates are; undefined where there is no valid date, which counts as none. */
function isModifiedSince(text: string | undefined, object: ObjectVersion): boolean | undefined {
  if (text === undefined) return undefined;
  const time = Date.parse(text);
  if (Number.isNaN(time)) return undefined;
  return Math.floor(object.modifiedAt / 1000) > Math.floor(time / 1000);
}

/** With the headers that a cache renews what it keeps by (RFC 9110, section 15.4.5). */
function notModified({ etag, modifiedAt, attributes }: ObjectVersion) {
  const headers: Record<string, string> = { etag: `"${etag}"`, "last-modified": httpDate(modifiedAt) };
  for (const name of ["cache-control", "expires"]) {
    const value = attributes.headers?.[name];
    if (value !== undefined) headers[name] = value;
  }
  return fail("NotModified", {}, { headers });
}

function one(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return typeof value === "string" ? value : undefined;
}
