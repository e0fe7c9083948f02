import type { IncomingHttpHeaders } from "node:http";
import type { ChecksumAlgorithm } from "@skep/objects";
import { fail } from "./errors.ts";

/** The additional checksum that a request announces: in a header, or to come in the trailer. */
export interface AnnouncedChecksum {
  algorithm: ChecksumAlgorithm;
  /** base64; undefined where it comes in the trailer. */
  value: string | undefined;
}

/** Bytes of each checksum. */
const lengths: Record<ChecksumAlgorithm, number> = {
  CRC32: 4,
  CRC32C: 4,
  CRC64NVME: 8,
  SHA1: 20,
  SHA256: 32,
};
const algorithms = Object.keys(lengths) as ChecksumAlgorithm[];
const headerNames = new Map(algorithms.map((one) => [checksumHeader(one), one]));

export function checksumHeader(algorithm: ChecksumAlgorithm): string {
  return `x-amz-checksum-${algorithm.toLowerCase()}`;
}

/** An algorithm as a request names it. InvalidRequest. */
export function parseAlgorithm(text: string | undefined): ChecksumAlgorithm | undefined {
  if (text === undefined) return undefined;
  const algorithm = algorithms.find((one) => one === text.toUpperCase());
  if (algorithm === undefined) {
    throw fail("InvalidRequest", {
      why: "Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]",
    });
  }
  return algorithm;
}

/** base64 of as many bytes as the algorithm gives. */
export function isChecksum(algorithm: ChecksumAlgorithm, value: string): boolean {
  return isBase64(value, lengths[algorithm]);
}

function isBase64(value: string, length: number): boolean {
  const bytes = Buffer.from(value, "base64");
  return bytes.length === length && bytes.toString("base64") === value;
}

/** The announced names of trailing headers, in lower case. */
export function trailerNames(headers: IncomingHttpHeaders): string[] {
  const text = headers["x-amz-trailer"];
  if (typeof text !== "string") return [];
  return text.split(",").map((name) => name.trim().toLowerCase());
}

/** InvalidRequest where there are several, BadDigest where the value cannot be one. */
export function announcedChecksum(headers: IncomingHttpHeaders): AnnouncedChecksum | undefined {
  let found: AnnouncedChecksum | undefined;
  const add = (algorithm: ChecksumAlgorithm, value: string | undefined) => {
    if (found !== undefined) {
      throw fail("InvalidRequest", {
        why: "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
      });
    }
    found = { algorithm, value };
  };
  for (const [name, algorithm] of headerNames) {
    const value = headers[name];
    if (typeof value !== "string") continue;
    if (!isChecksum(algorithm, value)) throw fail("BadDigest", { what: algorithm });
    add(algorithm, value);
  }
  if (headers["x-amz-trailer"] !== undefined) {
    for (const name of trailerNames(headers)) {
      const algorithm = headerNames.get(name);
      if (algorithm === undefined) {
        throw fail("InvalidRequest", {
          why: "The value specified in the x-amz-trailer header is not supported",
        });
      }
      add(algorithm, undefined);
    }
  }
  const named = headers["x-amz-sdk-checksum-algorithm"];
  if (typeof named === "string") {
    const algorithm = parseAlgorithm(named);
    if (found === undefined) {
      throw fail("InvalidRequest", {
        why: "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
      });
    }
    if (found.algorithm !== algorithm) {
      throw fail("InvalidRequest", { why: "Value for x-amz-sdk-checksum-algorithm header is invalid." });
    }
  }
  return found;
}

/** Content-MD5 as hexadecimal. InvalidDigest. */
export function announcedMd5(headers: IncomingHttpHeaders): string | undefined {
  const value = headers["content-md5"];
  if (value === undefined) return undefined;
  if (typeof value !== "string" || !isBase64(value, 16)) throw fail("InvalidDigest");
  return Buffer.from(value, "base64").toString("hex");
}
