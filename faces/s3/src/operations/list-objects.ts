import type { ListRequest, ObjectVersion } from "@skep/objects";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { storageClassOf } from "../object-headers.ts";
import { ownerNames, ownerXml } from "../owners.ts";
import { document, isoTime, isXmlText, nest, tag } from "../xml.ts";
import { keyEncoding, pageSize } from "./parameters.ts";

type Page = Awaited<ReturnType<S3Request["store"]["list"]>>;

/** ListObjects, the first version: pages by `marker`. */
export async function listObjects(request: S3Request): Promise<S3Response> {
  const { query } = request;
  const asked = askedList(request);
  const marker = query.get("marker") ?? "";
  const page = await listPage(
    request,
    asked,
    isRolled(marker, asked) ? { continuation: marker } : { startAfter: marker },
  );
  const { encode, type } = keyEncoding(request);
  const name = ownerNames(request.service);
  return {
    body: document(
      "ListBucketResult",
      tag("Name", request.bucketName),
      // Not encoded: botocore takes it as it is, in this version alone.
      tag("Prefix", isXmlText(asked.prefix) ? asked.prefix : encode(asked.prefix)),
      tag("Marker", encode(marker)),
      page.next === undefined || asked.delimiter === undefined ? "" : tag("NextMarker", encode(lastOf(page))),
      tag("MaxKeys", asked.limit),
      asked.delimiter === undefined ? "" : tag("Delimiter", encode(asked.delimiter)),
      tag("EncodingType", type),
      tag("IsTruncated", page.next !== undefined),
      contents(page, encode, name),
    ),
  };
}

/** ListObjectsV2: pages by an opaque token. */
export async function listObjectsV2(request: S3Request): Promise<S3Response> {
  const { query } = request;
  if (query.get("list-type") !== "2") throw fail("InvalidArgument", { why: "Invalid list-type" });
  const asked = askedList(request);
  const token = query.get("continuation-token");
  const startAfter = query.get("start-after");
  const from =
    token === undefined || token === ""
      ? { startAfter: startAfter ?? "" }
      : { continuation: readToken(token) };
  const page = await listPage(request, asked, from);
  const { encode, type } = keyEncoding(request);
  const name = query.get("fetch-owner") === "true" ? ownerNames(request.service) : undefined;
  return {
    body: document(
      "ListBucketResult",
      tag("Name", request.bucketName),
      tag("Prefix", encode(asked.prefix)),
      tag("MaxKeys", asked.limit),
      tag("KeyCount", page.objects.length + page.prefixes.length),
      asked.delimiter === undefined ? "" : tag("Delimiter", encode(asked.delimiter)),
      tag("EncodingType", type),
      tag("ContinuationToken", token),
      page.next === undefined ? "" : tag("NextContinuationToken", writeToken(page.next)),
      startAfter === undefined ? "" : tag("StartAfter", encode(startAfter)),
      tag("IsTruncated", page.next !== undefined),
      contents(page, encode, name),
    ),
  };
}

interface AskedList {
  prefix: string;
  delimiter?: string;
  limit: number;
}

function askedList(request: S3Request): AskedList {
  const delimiter = request.query.get("delimiter") ?? "";
  // Ceph's extension; what is in order here anyway may be asked for without.
  if (delimiter !== "" && request.query.get("allow-unordered") === "true") {
    throw fail("InvalidArgument", { why: "An unordered listing cannot have a delimiter" });
  }
  return {
    prefix: request.query.get("prefix") ?? "",
    ...(delimiter === "" ? {} : { delimiter }),
    limit: pageSize(request, "max-keys"),
  };
}

async function listPage(request: S3Request, asked: AskedList, from: ListRequest): Promise<Page> {
  if (asked.limit === 0) return { objects: [], prefixes: [] };
  return request.store.list(request.bucketName, { ...asked, ...from, signal: request.signal });
}

/** Whether a marker is a prefix that an earlier page has given: all keys below it are done with. */
function isRolled(marker: string, { prefix, delimiter }: AskedList): boolean {
  if (delimiter === undefined || !marker.startsWith(prefix)) return false;
  const at = marker.indexOf(delimiter, prefix.length);
  return at >= 0 && at + delimiter.length === marker.length;
}

/** The last key or prefix of a page, in the order of bytes. */
function lastOf(page: Page): string {
  const key = page.objects.at(-1)?.key ?? "";
  const prefix = page.prefixes.at(-1) ?? "";
  return Buffer.compare(Buffer.from(key), Buffer.from(prefix)) > 0 ? key : prefix;
}

function writeToken(next: string): string {
  return Buffer.from(`1${next}`).toString("base64url");
}

function readToken(token: string): string {
  const text = Buffer.from(token, "base64url").toString();
  if (text.startsWith("1") && writeToken(text.slice(1)) === token) return text.slice(1);
  throw fail("InvalidArgument", {
    why: "The continuation token provided is incorrect",
    ArgumentName: "continuation-token",
  });
}

function contents(
  page: Page,
  encode: (key: string) => string,
  name: ((id: string) => string) | undefined,
): string {
  let xml = "";
  for (const object of page.objects) {
    const owner = name === undefined ? "" : ownerXml(object.owner, name(object.owner));
    xml += `<Contents>${objectXml(object, encode)}${owner}</Contents>`;
  }
  for (const prefix of page.prefixes) xml += nest("CommonPrefixes", tag("Prefix", encode(prefix)));
  return xml;
}

/** What listings say of an object. */
export function objectXml(object: ObjectVersion, encode: (key: string) => string): string {
  const { checksum } = object.attributes;
  return (
    tag("Key", encode(object.key)) +
    `<LastModified>${isoTime(object.modifiedAt)}</LastModified>` +
    `<ETag>&quot;${object.etag}&quot;</ETag>` +
    (checksum === undefined
      ? ""
      : tag("ChecksumAlgorithm", checksum.algorithm) + tag("ChecksumType", checksum.type)) +
    `<Size>${object.sizeBytes}</Size>` +
    `<StorageClass>${storageClassOf(object)}</StorageClass>`
  );
}
