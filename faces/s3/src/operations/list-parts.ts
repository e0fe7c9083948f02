import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { ownerNames, ownerXml } from "../owners.ts";
import { document, isoTime, nest, tag } from "../xml.ts";
import { uploadForAction } from "./existing.ts";
import { keyEncoding, pageSize } from "./parameters.ts";

export async function listParts(request: S3Request): Promise<S3Response> {
  const { bucketName, key, query, store } = request;
  const upload = await uploadForAction(request, "s3:ListMultipartUploadParts");
  const { id } = upload;
  const limit = pageSize(request, "max-parts");
  const marker = query.get("part-number-marker") ?? "";
  if (!/^\d{0,9}$/.test(marker)) {
    throw fail("InvalidArgument", {
      why: "Provided part-number-marker not an integer or within integer range",
      ArgumentName: "part-number-marker",
      ArgumentValue: marker,
    });
  }
  const after = Number(marker);
  const { parts, next } =
    limit === 0 ? { parts: [], next: undefined } : await store.parts(bucketName, key, id, { after, limit });
  const name = ownerNames(request.service);
  const { checksum } = upload;
  return {
    body: document(
      "ListPartsResult",
      tag("Bucket", bucketName),
      tag("Key", key),
      tag("UploadId", id),
      ownerXml(upload.owner, name(upload.owner), "Initiator"),
      ownerXml(upload.owner, name(upload.owner)),
      tag("StorageClass", upload.attributes.headers?.["x-amz-storage-class"] ?? "STANDARD"),
      tag("PartNumberMarker", after),
      tag("NextPartNumberMarker", next ?? parts.at(-1)?.number ?? 0),
      tag("MaxParts", limit),
      tag("ChecksumAlgorithm", checksum?.algorithm),
      tag("ChecksumType", checksum?.type),
      tag("IsTruncated", next !== undefined),
      ...parts.map((part) =>
        nest(
          "Part",
          tag("PartNumber", part.number),
          tag("LastModified", isoTime(part.modifiedAt)),
          tag("ETag", `"${part.etag}"`),
          tag("Size", part.sizeBytes),
          checksum === undefined ? "" : tag(`Checksum${checksum.algorithm}`, part.checksum),
        ),
      ),
    ),
  };
}

export async function listMultipartUploads(request: S3Request): Promise<S3Response> {
  const { bucketName, query, store } = request;
  const limit = pageSize(request, "max-uploads");
  const prefix = query.get("prefix") ?? "";
  const delimiter = query.get("delimiter") ?? "";
  const keyMarker = query.get("key-marker") ?? "";
  const uploadMarker = query.get("upload-id-marker") ?? "";
  const page =
    limit === 0
      ? { uploads: [], prefixes: [], truncated: false }
      : await store.uploads(bucketName, {
          prefix,
          ...(delimiter === "" ? {} : { delimiter }),
          ...(keyMarker === "" ? {} : { keyMarker }),
          // Without a key it says nothing, as with S3.
          ...(uploadMarker === "" || keyMarker === "" ? {} : { uploadMarker }),
          limit,
        });
  const { encode, type } = keyEncoding(request);
  const name = ownerNames(request.service);
  return {
    body: document(
      "ListMultipartUploadsResult",
      tag("Bucket", bucketName),
      tag("KeyMarker", encode(keyMarker)),
      tag("UploadIdMarker", uploadMarker),
      page.nextKeyMarker === undefined ? "" : tag("NextKeyMarker", encode(page.nextKeyMarker)),
      tag("NextUploadIdMarker", page.nextUploadMarker),
      delimiter === "" ? "" : tag("Delimiter", encode(delimiter)),
      tag("Prefix", encode(prefix)),
      tag("EncodingType", type),
      tag("MaxUploads", limit),
      tag("IsTruncated", page.truncated),
      ...page.uploads.map((upload) =>
        nest(
          "Upload",
          tag("Key", encode(upload.key)),
          tag("UploadId", upload.id),
          ownerXml(upload.owner, name(upload.owner), "Initiator"),
          ownerXml(upload.owner, name(upload.owner)),
          tag("StorageClass", upload.attributes.headers?.["x-amz-storage-class"] ?? "STANDARD"),
          tag("Initiated", isoTime(upload.initiatedAt)),
          tag("ChecksumAlgorithm", upload.checksum?.algorithm),
          tag("ChecksumType", upload.checksum?.type),
        ),
      ),
      ...page.prefixes.map((one) => nest("CommonPrefixes", tag("Prefix", encode(one)))),
    ),
  };
}
