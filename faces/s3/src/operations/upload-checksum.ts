import type { Attributes, PartInfo, Upload } from "@skep/objects";
import { combineChecksums, compositeChecksum } from "../checksums.ts";
import type { S3Request } from "../context.ts";
import { parseAlgorithm } from "../digests.ts";
import { fail } from "../errors.ts";

type UploadChecksum = NonNullable<Upload["checksum"]>;

/** Which checksum the parts of a new upload will have, and what the whole object's will be made of. */
export function uploadChecksum(request: S3Request): UploadChecksum | undefined {
  const { headers } = request;
  const algorithm = parseAlgorithm(textOf(headers["x-amz-checksum-algorithm"]));
  const type = textOf(headers["x-amz-checksum-type"])?.toUpperCase();
  if (algorithm === undefined) {
    if (type !== undefined) {
      throw fail("InvalidRequest", {
        why: "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
      });
    }
    return undefined;
  }
  const chosen = type ?? (algorithm === "CRC64NVME" ? "FULL_OBJECT" : "COMPOSITE");
  const isSha = algorithm === "SHA1" || algorithm === "SHA256";
  if (chosen !== "COMPOSITE" && chosen !== "FULL_OBJECT") {
    throw fail("InvalidRequest", { why: "Value for x-amz-checksum-type header is invalid." });
  }
  if ((chosen === "COMPOSITE" && algorithm === "CRC64NVME") || (chosen === "FULL_OBJECT" && isSha)) {
    throw fail("InvalidRequest", {
      why: `The ${chosen} checksum type cannot be used with the ${algorithm.toLowerCase()} checksum algorithm.`,
    });
  }
  return { algorithm, type: chosen };
}

/** The checksum of the object that these parts become; undefined where a part has none. */
export function objectChecksum(upload: Upload, parts: readonly PartInfo[]): Attributes["checksum"] {
  const { checksum } = upload;
  if (checksum === undefined) return undefined;
  const { algorithm, type } = checksum;
  const known = parts.flatMap((part) =>
    part.checksum === undefined ? [] : [{ checksum: part.checksum, sizeBytes: part.sizeBytes }],
  );
  if (known.length !== parts.length) return undefined;
  if (type === "COMPOSITE" || algorithm === "SHA1" || algorithm === "SHA256") {
    const value = compositeChecksum(
      algorithm,
      known.map((one) => one.checksum),
    );
    return { algorithm, type: "COMPOSITE", value };
  }
  return { algorithm, type, value: combineChecksums(algorithm, known) };
}

function textOf(header: string | string[] | undefined): string | undefined {
  return typeof header === "string" ? header : undefined;
}
