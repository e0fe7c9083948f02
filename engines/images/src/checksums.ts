import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { fail } from "./errors.ts";

export interface Checksum {
  algorithm: "sha256" | "sha512";
  hex: string;
}

/**
 * Finds a file's digest in a publisher's list. Read are the lines of sha256sum and sha512sum
 * (`HEX  NAME`, `HEX *NAME`), BSD's (`SHA256 (NAME) = HEX`), and a file that holds nothing but one digest.
 * A list signed in place (PGP) is read as the text that it is.
 */
export function findChecksum(text: string, file: string): Checksum | undefined {
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  for (const line of lines) {
    const bsd = /^SHA(256|512) ?\((.+)\) ?= ?([0-9a-f]+)$/i.exec(line);
    if (bsd !== null && bsd[2] === file) return checksumOf(bsd[3] as string);
    const gnu = /^([0-9a-f]{64}|[0-9a-f]{128})\s+\*?(?:\.\/)?(.+)$/i.exec(line);
    if (gnu !== null && gnu[2] === file) return checksumOf(gnu[1] as string);
  }
  const filled = lines.filter((line) => line !== "");
  return filled.length === 1 ? checksumOf(filled[0] as string) : undefined;
}

export function checksumOf(hex: string): Checksum | undefined {
  const lower = hex.toLowerCase();
  if (/^[0-9a-f]{64}$/.test(lower)) return { algorithm: "sha256", hex: lower };
  return /^[0-9a-f]{128}$/.test(lower) ? { algorithm: "sha512", hex: lower } : undefined;
}

/** Reads the whole file and throws CHECKSUM_MISMATCH when it is another. */
export async function checkFile(
  path: string,
  what: string,
  expected: Checksum,
  signal: AbortSignal,
): Promise<void> {
  const hash = createHash(expected.algorithm);
  for await (const part of createReadStream(path, { highWaterMark: 1 << 20, signal }))
    hash.update(part as Buffer);
  const actual = hash.digest("hex");
  if (actual === expected.hex) return;
  throw fail("CHECKSUM_MISMATCH", { what, algorithm: expected.algorithm, actual, expected: expected.hex });
}
