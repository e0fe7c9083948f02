import { equal } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import type { ChecksumAlgorithm } from "@skep/objects";
import { combineChecksums, compositeChecksum, createChecksum } from "./checksums.ts";

const hex = (text: string) => Buffer.from(text, "hex").toString("base64");

function checksum(algorithm: ChecksumAlgorithm, ...pieces: (Uint8Array | string)[]): string {
  const whole = createChecksum(algorithm);
  for (const piece of pieces) whole.update(typeof piece === "string" ? Buffer.from(piece) : piece);
  return whole.digest();
}

/** The check values of the catalogue of CRCs, and the digests of FIPS 180's algorithms, of "123456789". */
const check: Record<ChecksumAlgorithm, string> = {
  CRC32: hex("cbf43926"),
  CRC32C: hex("e3069283"),
  CRC64NVME: hex("ae8b14860a799888"),
  SHA1: hex("f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
  SHA256: hex("15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
};
const algorithms = Object.keys(check) as ChecksumAlgorithm[];
const crcs = ["CRC32", "CRC32C", "CRC64NVME"] as const;

describe("checksums", () => {
  for (const algorithm of algorithms) {
    test(`${algorithm} has the published check value, however the bytes come`, () => {
      equal(checksum(algorithm, "123456789"), check[algorithm]);
      equal(checksum(algorithm, "1", "", "2345678", "9"), check[algorithm]);
      const bytes = randomBytes(1000);
      const whole = checksum(algorithm, bytes);
      for (const cut of [0, 1, 7, 8, 9, 500, 999]) {
        equal(checksum(algorithm, bytes.subarray(0, cut), bytes.subarray(cut)), whole);
      }
    });
  }

  test("CRC32C has the values of RFC 3720, appendix B.4", () => {
    equal(checksum("CRC32C", Buffer.alloc(32)), hex("8a9136aa"));
    equal(checksum("CRC32C", Buffer.alloc(32, 0xff)), hex("62a8ab43"));
    equal(checksum("CRC32C", Buffer.from(Array.from({ length: 32 }, (_, n) => n))), hex("46dd794e"));
    equal(checksum("CRC32C", Buffer.from(Array.from({ length: 32 }, (_, n) => 31 - n))), hex("113fdb5c"));
  });

  test("CRC64NVME has the value of the NVM Command Set for 4 KiB of zeros and of ones", () => {
    equal(checksum("CRC64NVME", Buffer.alloc(4096)), hex("6482d367eb22b64e"));
    equal(checksum("CRC64NVME", Buffer.alloc(4096, 0xff)), hex("c0ddba7302eca3ac"));
  });

  test("the published crc32c of the chunked example is ours", () => {
    equal(checksum("CRC32C", "a".repeat(66_560)), "sOO8/Q==");
  });

  test("of a whole follow from those of its parts", () => {
    for (const algorithm of crcs) {
      for (const sizes of [[0], [1], [5, 0, 3], [1000, 1, 77_777, 1000], [100_000, 100_000, 100_000, 12]]) {
        const parts = sizes.map((size) => randomBytes(size));
        const combined = combineChecksums(
          algorithm,
          parts.map((part) => ({ checksum: checksum(algorithm, part), sizeBytes: part.length })),
        );
        equal(combined, checksum(algorithm, ...parts), `${algorithm} ${sizes}`);
      }
    }
  });

  test("combine for 10,000 parts of 5 GiB as for small ones", () => {
    const gib5 = 5 * 1024 ** 3;
    for (const algorithm of crcs) {
      const one = combineChecksums(algorithm, [
        { checksum: check[algorithm], sizeBytes: 9 },
        { checksum: check[algorithm], sizeBytes: gib5 },
      ]);
      const parts = Array.from({ length: 10_000 }, (_, n) => ({
        checksum: check[algorithm],
        sizeBytes: n === 0 ? 9 : gib5,
      }));
      equal(combineChecksums(algorithm, parts.slice(0, 2)), one);
      equal(combineChecksums(algorithm, parts).length, one.length);
    }
  });

  test("of parts, as COMPOSITE, cover the parts' checksums and say their number", () => {
    const parts = [checksum("SHA256", "a"), checksum("SHA256", "b")];
    const joined = Buffer.concat(parts.map((part) => Buffer.from(part, "base64")));
    equal(compositeChecksum("SHA256", parts), `${checksum("SHA256", joined)}-2`);
  });
});
