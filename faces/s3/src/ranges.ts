import type { IncomingHttpHeaders } from "node:http";
import type { ByteRange, ObjectVersion } from "@skep/objects";
import { bareETag } from "./conditions.ts";
import { fail } from "./errors.ts";

/**
 * The one range that a request asks for. Several ranges S3 does not serve, and what is no range counts
 * as none: both give the whole object (undefined). InvalidRange where the object has no such byte.
 */
export function rangeOf(headers: IncomingHttpHeaders, object: ObjectVersion): ByteRange | undefined {
  const header = headers.range;
  if (header === undefined || !holdsIfRange(headers["if-range"], object)) return undefined;
  return parseRange(header, object.sizeBytes);
}

function parseRange(header: string, sizeBytes: number): ByteRange | undefined {
  const match = /^\s*bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$/i.exec(header);
  if (match === null) return undefined;
  const [, first = "", last = ""] = match;
  if (first === "" && last === "") return undefined;
  if (first === "") {
    const length = Number(last);
    if (length === 0 || sizeBytes === 0) throw unsatisfiable(header, sizeBytes);
    return { start: Math.max(sizeBytes - length, 0), end: sizeBytes };
  }
  const start = Number(first);
  if (last !== "" && Number(last) < start) return undefined;
  if (start >= sizeBytes) throw unsatisfiable(header, sizeBytes);
  return { start, end: last === "" ? sizeBytes : Math.min(Number(last) + 1, sizeBytes) };
}

export function contentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.start}-${range.end - 1}/${sizeBytes}`;
}

function unsatisfiable(header: string, sizeBytes: number) {
  return fail(
    "InvalidRange",
    { RangeRequested: header, ActualObjectSize: sizeBytes },
    { headers: { "content-range": `bytes */${sizeBytes}` } },
  );
}

/** A range is meant only for the object that the client has the rest of. */
function holdsIfRange(header: string | string[] | undefined, object: ObjectVersion): boolean {
  if (typeof header !== "string") return true;
  if (header.includes('"')) return bareETag(header) === object.etag && !header.startsWith("W/");
  const time = Date.parse(header);
  return Number.isNaN(time) || Math.floor(object.modifiedAt / 1000) <= Math.floor(time / 1000);
}
