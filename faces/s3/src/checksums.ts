import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import type { ChecksumAlgorithm } from "@skep/objects";
import { type Crc64, combine32, combine64, crc32c, crc64nvme, poly32, poly32c } from "./crc.ts";

/** Computes one of S3's additional checksums while the bytes pass. */
export interface Checksum {
  update(bytes: Uint8Array): void;
  /** base64, as in the headers `x-amz-checksum-*`. */
  digest(): string;
}

export function createChecksum(algorithm: ChecksumAlgorithm): Checksum {
  switch (algorithm) {
    case "CRC32":
      return checksum32(crc32);
    case "CRC32C":
      return checksum32(crc32c);
    case "CRC64NVME":
      return checksum64();
    case "SHA1":
    case "SHA256": {
      const state = createHash(algorithm);
      return { update: (bytes) => void state.update(bytes), digest: () => state.digest("base64") };
    }
  }
}

function checksum32(step: (bytes: Uint8Array, crc: number) => number): Checksum {
  let crc = 0;
  return {
    update(bytes) {
      crc = step(bytes, crc);
    },
    digest: () => write32(crc),
  };
}

function checksum64(): Checksum {
  let crc: Crc64 = { high: 0, low: 0 };
  return {
    update(bytes) {
      crc = crc64nvme(bytes, crc);
    },
    digest: () => write64(crc),
  };
}

function write32(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc >>> 0);
  return bytes.toString("base64");
}

function write64(crc: Crc64): string {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt32BE(crc.high >>> 0);
  bytes.writeUInt32BE(crc.low >>> 0, 4);
  return bytes.toString("base64");
}

/** The checksum of the parts' checksums, with their number, as S3 calls COMPOSITE. */
export function compositeChecksum(algorithm: ChecksumAlgorithm, parts: readonly string[]): string {
  const bytes = Buffer.concat(parts.map((part) => Buffer.from(part, "base64")));
  const whole = createChecksum(algorithm);
  whole.update(bytes);
  return `${whole.digest()}-${parts.length}`;
}

/** The checksum of the whole object from those of its parts: a CRC has one, a SHA has none. */
export function combineChecksums(
  algorithm: "CRC32" | "CRC32C" | "CRC64NVME",
  parts: readonly { checksum: string; sizeBytes: number }[],
): string {
  const read = parts.map(({ checksum, sizeBytes }) => ({
    bytes: Buffer.from(checksum, "base64"),
    sizeBytes,
  }));
  if (algorithm === "CRC64NVME") {
    const crcs = read.map(({ bytes, sizeBytes }) => ({
      crc: { high: bytes.readInt32BE(0), low: bytes.readInt32BE(4) },
      sizeBytes,
    }));
    return write64(combine64(crcs));
  }
  const crcs = read.map(({ bytes, sizeBytes }) => ({ crc: bytes.readInt32BE(0), sizeBytes }));
  return write32(combine32(crcs, algorithm === "CRC32" ? poly32 : poly32c));
}
