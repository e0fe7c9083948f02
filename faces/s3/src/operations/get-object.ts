import type { ByteRange, Bytes, ObjectVersion, PartInfo } from "@skep/objects";
import { checkReadConditions } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { checksumHeaders, describingHeaders } from "../object-headers.ts";
import { contentRange, rangeOf } from "../ranges.ts";
import { headForAction, openForAction } from "./existing.ts";
import { integerOf } from "./parameters.ts";

export async function getObject(request: S3Request): Promise<S3Response> {
  const open = await openForAction(request, "s3:GetObject");
  let kept = false;
  try {
    const { range, ...head } = answerHead(request, open.version);
    const wanted = range ?? { start: 0, end: open.version.sizeBytes };
    if (open.inline !== undefined) return { ...head, body: open.inline.subarray(wanted.start, wanted.end) };
    const body = await begun(open.read(wanted, { signal: request.signal, lend: true }));
    kept = true;
    return {
      ...head,
      sizeBytes: wanted.end - wanted.start,
      body,
      close: () => open[Symbol.asyncDispose](),
    };
  } finally {
    if (!kept) await open[Symbol.asyncDispose]();
  }
}

/** With the first piece read: damage in it can still be answered, what comes later breaks the connection. */
async function begun(bytes: Bytes): Promise<Bytes> {
  const iterator = bytes[Symbol.asyncIterator]();
  let first: IteratorResult<Uint8Array> | undefined = await iterator.next();
  return {
    [Symbol.asyncIterator]: () => ({
      async next() {
        const piece = first ?? iterator.next();
        first = undefined;
        return piece;
      },
      async return() {
        await iterator.return?.();
        return { done: true, value: undefined };
      },
    }),
  };
}

/** Of an object that is there, not implemented; of another one, what any operation says of it. */
export async function getObjectTorrent(request: S3Request): Promise<S3Response> {
  await headForAction(request, "s3:GetObjectTorrent");
  throw fail("NotImplemented", { what: "GetObjectTorrent" });
}

export async function headObject(request: S3Request): Promise<S3Response> {
  const object = await headForAction(request, "s3:GetObject");
  const { range, ...head } = answerHead(request, object);
  return { ...head, sizeBytes: range === undefined ? object.sizeBytes : range.end - range.start };
}

/** Status and headers of GET and HEAD alike, and which bytes are meant where not all are. */
function answerHead(
  request: S3Request,
  object: ObjectVersion,
): { status: number; headers: Record<string, string>; range?: ByteRange } {
  const { headers: asked, query } = request;
  checkReadConditions(asked, object);
  const headers = describingHeaders(request, object);
  if (query.size > 0) overrideHeaders(request, headers);
  const part = query.has("partNumber") ? partOf(request, object) : undefined;
  if (part?.count !== undefined) headers["x-amz-mp-parts-count"] = String(part.count);
  const range = part === undefined ? rangeOf(asked, object) : part.range;
  if (asked["x-amz-checksum-mode"] === "ENABLED") {
    if (part?.info !== undefined) Object.assign(headers, partChecksum(object, part.info));
    else if (range === undefined) Object.assign(headers, checksumHeaders(object.attributes.checksum));
  }
  if (range === undefined) return { status: 200, headers };
  headers["content-range"] = contentRange(range, object.sizeBytes);
  return { status: 206, headers, range };
}

function partChecksum(object: ObjectVersion, part: PartInfo): Record<string, string> {
  const { checksum } = object.attributes;
  if (checksum === undefined || part.checksum === undefined) return {};
  return checksumHeaders({ ...checksum, value: part.checksum });
}

/** The bytes of one part; an object that was not uploaded in parts is its own part 1. */
function partOf(
  request: S3Request,
  object: ObjectVersion,
): { range?: ByteRange; count?: number; info?: PartInfo } {
  if (request.headers.range !== undefined) {
    throw fail("InvalidRequest", { why: "Cannot specify both Range header and partNumber query parameter" });
  }
  const number = integerOf(request, "partNumber", 1, 10_000);
  const { parts } = object;
  if (parts === undefined) {
    if (number !== 1) throw fail("InvalidPart", { PartNumber: number });
    return object.sizeBytes === 0 ? {} : { range: { start: 0, end: object.sizeBytes } };
  }
  let start = 0;
  for (const info of parts) {
    if (info.number === number) {
      return { range: { start, end: start + info.sizeBytes }, count: parts.length, info };
    }
    start += info.sizeBytes;
  }
  throw fail("InvalidPart", { PartNumber: number });
}

const overridable = [
  "content-type",
  "content-language",
  "expires",
  "cache-control",
  "content-disposition",
  "content-encoding",
];

/** `response-content-type=` and its kin: for those who sign, so that no link can make a page of data. */
function overrideHeaders(request: S3Request, headers: Record<string, string>): void {
  for (const name of overridable) {
    const value = request.query.get(`response-${name}`);
    if (value === undefined) continue;
    if (request.identity.account === undefined) {
      throw fail("InvalidRequest", {
        why: "Request specific response headers cannot be used for anonymous GET requests.",
      });
    }
    if (/[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw fail("InvalidArgument", {
        why: "Header value cannot be represented",
        ArgumentName: `response-${name}`,
      });
    }
    headers[name] = value;
  }
}
