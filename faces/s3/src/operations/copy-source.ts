import type { ByteRange, OpenVersion } from "@skep/objects";
import { isBucketName } from "../bucket-names.ts";
import { checkSourceConditions } from "../conditions.ts";
import type { S3Request } from "../context.ts";
import { fail } from "../errors.ts";

export interface CopySource {
  bucket: string;
  key: string;
  versionId?: string;
}

/** `x-amz-copy-source`: `/BUCKET/KEY?versionId=ID`, percent-encoded (or not, as some clients have it). */
export function copySourceOf(request: S3Request): CopySource {
  const header = String(request.headers["x-amz-copy-source"] ?? "");
  const mark = header.lastIndexOf("?versionId=");
  const path = decodeSource(mark < 0 ? header : header.slice(0, mark)).replace(/^\//, "");
  const versionId = mark < 0 ? undefined : decodeSource(header.slice(mark + 11));
  const slash = path.indexOf("/");
  const bucket = path.slice(0, Math.max(slash, 0));
  const key = path.slice(slash + 1);
  if (slash < 0 || key === "" || !isBucketName(bucket) || versionId === "") {
    throw fail("InvalidArgument", {
      why: "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
      ArgumentName: "x-amz-copy-source",
      ArgumentValue: header,
    });
  }
  return { bucket, key, ...(versionId === undefined ? {} : { versionId }) };
}

function decodeSource(text: string): string {
  // Node shows header bytes as latin1; what is not ASCII there is UTF-8 that nobody encoded.
  const utf8 = /[\x80-\xff]/.test(text) ? Buffer.from(text, "latin1").toString() : text;
  try {
    return decodeURIComponent(utf8.replaceAll("+", " "));
  } catch (error) {
    throw fail("InvalidArgument", { why: "The copy source is not encoded as a URL" }, { cause: error });
  }
}

/** The source, open, when the requester may read it and it is as the headers demand. */
export async function openSource(request: S3Request, source: CopySource): Promise<OpenVersion> {
  const { store } = request;
  const bucket = await store.bucket(source.bucket);
  const action = source.versionId === undefined ? "s3:GetObject" : "s3:GetObjectVersion";
  const expected = request.headers["x-amz-source-expected-bucket-owner"];
  if (expected !== undefined && request.service.accounts.account(bucket.owner).number !== expected) {
    throw fail("AccessDenied");
  }
  let open: OpenVersion;
  try {
    open = await store.open(source.bucket, source.key, source.versionId);
  } catch (error) {
    request.authorize("s3:ListBucket", { bucket });
    throw error;
  }
  try {
    const { version } = open;
    if (version.deleteMarker) {
      request.authorize("s3:ListBucket", { bucket });
      if (source.versionId === undefined) throw fail("NoSuchKey", { Key: source.key });
      throw fail("InvalidRequest", {
        why: "The source of a copy request may not specifically refer to a delete marker by version id.",
      });
    }
    request.authorize(action, { bucket, key: source.key, object: version });
    checkSourceConditions(request.headers, version);
    return open;
  } catch (error) {
    await open[Symbol.asyncDispose]();
    throw error;
  }
}

/** `x-amz-copy-source-range`, which must be whole and within the source. */
export function sourceRange(request: S3Request, sizeBytes: number): ByteRange {
  const header = request.headers["x-amz-copy-source-range"];
  if (header === undefined) return { start: 0, end: sizeBytes };
  const match = /^bytes=(\d{1,15})-(\d{1,15})$/.exec(String(header));
  const start = Number(match?.[1]);
  const end = Number(match?.[2]) + 1;
  if (match === null || end <= start) {
    throw fail("InvalidArgument", {
      why: "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
      ArgumentName: "x-amz-copy-source-range",
      ArgumentValue: String(header),
    });
  }
  if (end > sizeBytes) {
    throw fail("InvalidRange", { RangeRequested: String(header), ActualObjectSize: sizeBytes });
  }
  return { start, end };
}
