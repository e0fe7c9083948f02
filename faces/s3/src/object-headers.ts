import type { IncomingHttpHeaders } from "node:http";
import type { Attributes, Bucket, ObjectVersion } from "@skep/objects";
import { newObjectAcl } from "./access/new-resources.ts";
import { tagsFromHeader } from "./configuration/tags.ts";
import type { S3Request } from "./context.ts";
import { checksumHeader } from "./digests.ts";
import { fail } from "./errors.ts";
import { expirationHeader } from "./lifecycle.ts";

/** Headers that an object keeps and gives back. */
const kept = [
  "content-type",
  "cache-control",
  "content-disposition",
  "content-language",
  "expires",
  "x-amz-website-redirect-location",
] as const;
/** Classes whose objects can be read at once, as all can here. */
const storageClasses = new Set([
  "STANDARD",
  "STANDARD_IA",
  "ONEZONE_IA",
  "INTELLIGENT_TIERING",
  "REDUCED_REDUNDANCY",
  "GLACIER_IR",
]);
const encryptions = new Set(["AES256", "aws:kms", "aws:kms:dsse"]);
const metadataPrefix = "x-amz-meta-";
const maxMetadataBytes = 2048;
const defaultType = "binary/octet-stream";

/** Everything that the headers of a request give to the object it makes. */
export function newAttributes(request: S3Request, bucket: Bucket): Attributes {
  const { headers } = request;
  refuseUnsupported(headers);
  const tags = tagsFromHeader(request);
  const acl = newObjectAcl(request, bucket);
  return {
    headers: keptHeaders(headers),
    metadata: metadataOf(headers),
    ...(tags === undefined ? {} : { tags }),
    ...(acl === undefined ? {} : { acl }),
  };
}

/** What would change how an object is kept, and is not there, is refused rather than passed over. */
export function refuseUnsupported(headers: IncomingHttpHeaders): void {
  for (const name in headers) {
    if (!name.startsWith("x-amz-")) continue;
    if (name.startsWith("x-amz-server-side-encryption")) {
      if (name === "x-amz-server-side-encryption" && !encryptions.has(String(headers[name]))) {
        throw fail("InvalidArgument", {
          why: "The encryption method specified is not supported",
          ArgumentName: name,
          ArgumentValue: String(headers[name]),
        });
      }
      throw fail("NotImplemented", { what: "Server-side encryption", Header: name });
    }
    if (name.startsWith("x-amz-object-lock-") || name === "x-amz-bucket-object-lock-enabled") {
      throw fail("NotImplemented", { what: "Object lock", Header: name });
    }
    if (name === "x-amz-write-offset-bytes") {
      throw fail("NotImplemented", { what: "Appending to objects", Header: name });
    }
  }
}

function keptHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const result: Record<string, string> = {};
  for (const name of kept) {
    const value = headers[name];
    if (typeof value === "string" && value !== "") result[name] = checkValue(name, value);
  }
  const encoding = contentEncoding(headers["content-encoding"]);
  if (encoding !== undefined) result["content-encoding"] = checkValue("content-encoding", encoding);
  const storageClass = headers["x-amz-storage-class"];
  if (typeof storageClass === "string" && storageClass !== "STANDARD") {
    if (!storageClasses.has(storageClass)) {
      throw fail("InvalidStorageClass", { StorageClassRequested: storageClass });
    }
    result["x-amz-storage-class"] = storageClass;
  }
  return result;
}

/** aws-chunked is how the body travelled, not what the object is. */
function contentEncoding(value: string | undefined): string | undefined {
  if (value === undefined || !value.includes("aws-chunked")) return value === "" ? undefined : value;
  const rest = value
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "" && one !== "aws-chunked");
  return rest.length === 0 ? undefined : rest.join(",");
}

/** Values are kept as the bytes they came in (Node shows each as one character), and go out so. */
function metadataOf(headers: IncomingHttpHeaders): Record<string, string> {
  const metadata = new Map<string, string>(); // a name may be __proto__
  let size = 0;
  for (const name in headers) {
    if (!name.startsWith(metadataPrefix)) continue;
    const value = checkValue(name, String(headers[name]));
    metadata.set(name.slice(metadataPrefix.length), value);
    size += name.length - metadataPrefix.length + value.length;
  }
  if (size > maxMetadataBytes) {
    throw fail("MetadataTooLarge", { Size: size, MaxSizeAllowed: maxMetadataBytes });
  }
  return Object.fromEntries(metadata);
}

/** A form's fields come here too, and may hold what no header can: it could never be given back. */
function checkValue(name: string, value: string): string {
  if (/^[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name) && !/[^\t\x20-\x7e\x80-\xff]/.test(value)) return value;
  throw fail("InvalidArgument", { why: "Header name or value cannot be represented", ArgumentName: name });
}

export function storageClassOf(object: Pick<ObjectVersion, "attributes">): string {
  return object.attributes.headers?.["x-amz-storage-class"] ?? "STANDARD";
}

/** Of a bucket that never had versioning, no answer names a version. */
export function versionHeader(request: S3Request, versionId: string): Record<string, string> {
  return request.bucket.versioning === "off" ? {} : { "x-amz-version-id": versionId };
}

/** The answer to whatever made an object; what has replaced the version before names none. */
export function createdHeaders(request: S3Request, object: ObjectVersion): Record<string, string> {
  const expiration = expirationHeader(request.bucket, object);
  return {
    etag: `"${object.etag}"`,
    ...(object.versionId === "null" ? {} : { "x-amz-version-id": object.versionId }),
    ...checksumHeaders(object.attributes.checksum),
    ...(expiration === undefined ? {} : { "x-amz-expiration": expiration }),
  };
}

export function checksumHeaders(checksum: Attributes["checksum"]): Record<string, string> {
  if (checksum === undefined) return {};
  return { [checksumHeader(checksum.algorithm)]: checksum.value, "x-amz-checksum-type": checksum.type };
}

/** What GET and HEAD say of an object, but for length, range and checksums. */
export function describingHeaders(request: S3Request, object: ObjectVersion): Record<string, string> {
  const { headers, metadata, tags } = object.attributes;
  const result: Record<string, string> = {
    "accept-ranges": "bytes",
    "last-modified": httpDate(object.modifiedAt),
    etag: `"${object.etag}"`,
    "content-type": defaultType,
    ...headers,
    ...versionHeader(request, object.versionId),
  };
  for (const name in metadata) result[metadataPrefix + name] = metadata[name]!;
  if (tags !== undefined) {
    const count = Object.keys(tags).length;
    if (count > 0) result["x-amz-tagging-count"] = String(count);
  }
  const expiration = expirationHeader(request.bucket, object);
  if (expiration !== undefined) result["x-amz-expiration"] = expiration;
  return result;
}

/** `Sat, 21 Nov 2026 03:20:00 GMT`. */
export function httpDate(ms: number): string {
  return new Date(ms).toUTCString();
}
