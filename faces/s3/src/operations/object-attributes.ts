import type { ObjectVersion } from "@skep/objects";
import { checkReadConditions } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { fail } from "../errors.ts";
import { httpDate, storageClassOf, versionHeader } from "../object-headers.ts";
import { document, nest, tag } from "../xml.ts";
import { headForAction } from "./existing.ts";

const known = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"];
const maxParts = 1000;

export async function getObjectAttributes(request: S3Request): Promise<S3Response> {
  const asked = askedAttributes(request);
  const object = await headForAction(request, "s3:GetObject");
  checkReadConditions(request.headers, object);
  const { checksum } = object.attributes;
  return {
    headers: {
      "last-modified": httpDate(object.modifiedAt),
      ...versionHeader(request, object.versionId),
    },
    body: document(
      "GetObjectAttributesResponse",
      asked.has("ETag") ? tag("ETag", object.etag) : "",
      asked.has("Checksum") && checksum !== undefined
        ? nest(
            "Checksum",
            tag(`Checksum${checksum.algorithm}`, checksum.value),
            tag("ChecksumType", checksum.type),
          )
        : "",
      asked.has("ObjectParts") && object.parts !== undefined ? partsXml(request, object) : "",
      asked.has("StorageClass") ? tag("StorageClass", storageClassOf(object)) : "",
      asked.has("ObjectSize") ? tag("ObjectSize", object.sizeBytes) : "",
    ),
  };
}

function askedAttributes(request: S3Request): Set<string> {
  const header = request.headers["x-amz-object-attributes"];
  const names = String(header ?? "")
    .split(",")
    .map((one) => one.trim())
    .filter((one) => one !== "");
  if (names.length === 0 || names.some((one) => !known.includes(one))) {
    throw fail("InvalidArgument", {
      why: "Invalid attribute name specified.",
      ArgumentName: "x-amz-object-attributes",
      ArgumentValue: String(header ?? ""),
    });
  }
  return new Set(names);
}

/** Each part is named only where it has a checksum of its own, as with S3. */
function partsXml(request: S3Request, object: ObjectVersion): string {
  const limit = Math.min(numberOf(request, "x-amz-max-parts") ?? maxParts, maxParts);
  const marker = numberOf(request, "x-amz-part-number-marker") ?? 0;
  const all = object.parts ?? [];
  const checksum = object.attributes.checksum;
  const after = all.filter((part) => part.number > marker);
  const page = after.slice(0, limit);
  const algorithm = checksum?.algorithm;
  return nest(
    "ObjectParts",
    tag("PartsCount", all.length),
    tag("PartNumberMarker", marker),
    tag("NextPartNumberMarker", page.at(-1)?.number ?? 0),
    tag("MaxParts", limit),
    tag("IsTruncated", after.length > page.length),
    ...page.map((part) =>
      nest(
        "Part",
        tag("PartNumber", part.number),
        tag("Size", part.sizeBytes),
        algorithm === undefined ? "" : tag(`Checksum${algorithm}`, part.checksum),
      ),
    ),
  );
}

function numberOf(request: S3Request, header: string): number | undefined {
  const value = request.headers[header];
  if (value === undefined) return undefined;
  if (!/^\d{1,9}$/.test(String(value))) {
    throw fail("InvalidArgument", { why: `${header} must be a number`, ArgumentName: header });
  }
  return Number(value);
}
