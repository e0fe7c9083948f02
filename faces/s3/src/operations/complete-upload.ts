import type { Attributes, CompletedPart, PartInfo, Upload } from "@skep/objects";
import { bareETag, writeCondition } from "../conditions.ts";
import type { S3Request, S3Response } from "../context.ts";
import { checksumHeader } from "../digests.ts";
import { fail } from "../errors.ts";
import { createdHeaders } from "../object-headers.ts";
import { document, parseXml, tag, type XmlElement } from "../xml.ts";
import { objectChecksum } from "./upload-checksum.ts";

const maxParts = 10_000;
const maxDocumentBytes = 8 * 1024 ** 2;
const partAlgorithms = ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"] as const;

export async function completeMultipartUpload(request: S3Request): Promise<S3Response> {
  const id = request.query.get("uploadId") ?? "";
  const condition = writeCondition(request.headers);
  // The headers' checksum is that of the object that is to be.
  const text = await request.bodyText(maxDocumentBytes, { ignoreChecksum: true });
  const root = parseXml(text, "CompleteMultipartUpload");
  const parts = withoutRepeats(root.all("Part").map(partOf));
  if (parts.length === 0) throw fail("MalformedXML");
  if (parts.length > maxParts) {
    throw fail("InvalidArgument", { why: `An upload has at most ${maxParts} parts` });
  }
  const object = await request.store.completeUpload(request.bucketName, request.key, id, parts, {
    ...(condition === undefined ? {} : { condition }),
    finish: (stored, upload) => finish(request, stored, upload),
  });
  const { etag: _, ...headers } = createdHeaders(request, object);
  const { checksum } = object.attributes;
  return {
    headers,
    body: document(
      "CompleteMultipartUploadResult",
      tag("Location", locationOf(request)),
      tag("Bucket", request.bucketName),
      tag("Key", request.key),
      tag("ETag", `"${object.etag}"`),
      checksum === undefined ? "" : tag(`Checksum${checksum.algorithm}`, checksum.value),
      tag("ChecksumType", checksum?.type),
    ),
  };
}

/** Of a part that was named again at once, as by a client that sent it twice, the last counts. */
function withoutRepeats(parts: CompletedPart[]): CompletedPart[] {
  return parts.filter((part, at) => part.number !== parts[at + 1]?.number);
}

function locationOf(request: S3Request): string {
  const path = encodeURIComponent(request.key).replaceAll("%2F", "/");
  return `${request.secure ? "https" : "http"}://${request.headers.host ?? ""}/${request.bucketName}/${path}`;
}

function partOf(element: XmlElement): CompletedPart {
  const number = element.textOf("PartNumber")?.trim() ?? "";
  const etag = element.textOf("ETag");
  if (!/^\d{1,9}$/.test(number) || etag === undefined) throw fail("MalformedXML");
  if (Number(number) < 1 || Number(number) > maxParts) {
    throw fail("InvalidArgument", {
      why: `PartNumber must be an integer between 1 and ${maxParts}, inclusive`,
      ArgumentName: "partNumber",
      ArgumentValue: number,
    });
  }
  const checksum = partAlgorithms
    .map((algorithm) => element.textOf(`Checksum${algorithm}`)?.trim())
    .find((value) => value !== undefined && value !== "");
  return {
    number: Number(number),
    etag: bareETag(etag),
    ...(checksum === undefined ? {} : { checksum }),
  };
}

/** What the client says of the whole object must be so. */
function finish(
  request: S3Request,
  parts: readonly PartInfo[],
  upload: Upload,
): Partial<Attributes> | undefined {
  const { headers } = request;
  const size = headers["x-amz-mp-object-size"];
  if (size !== undefined) {
    const total = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    if (!/^\d{1,15}$/.test(String(size)) || Number(size) !== total) {
      throw fail("InvalidRequest", {
        why: `The provided 'x-amz-mp-object-size' header value ${size} does not match what was computed: ${total}`,
      });
    }
  }
  const type = headers["x-amz-checksum-type"];
  if (type !== undefined && upload.checksum !== undefined && type !== upload.checksum.type) {
    throw fail("InvalidRequest", {
      why: `The upload was created using the ${upload.checksum.type} checksum mode. The complete request must use the same checksum mode.`,
    });
  }
  const checksum = objectChecksum(upload, parts);
  for (const algorithm of partAlgorithms) {
    const declared = headers[checksumHeader(algorithm)];
    if (declared === undefined) continue;
    if (checksum?.algorithm !== algorithm || !isSameChecksum(String(declared), checksum.value)) {
      throw fail("BadDigest", { what: algorithm });
    }
  }
  return checksum === undefined ? undefined : { checksum };
}

/** Some SDKs leave the number of parts off a composite checksum. */
function isSameChecksum(declared: string, value: string): boolean {
  return declared === value || declared === value.replace(/-\d+$/, "");
}
