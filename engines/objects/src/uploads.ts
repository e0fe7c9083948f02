import { createHash } from "node:crypto";
import { fail } from "./errors.ts";
import type { PartRow } from "./index/rows.ts";
import type { CompletedPart } from "./types.ts";

/** The parts that were asked for, as they are stored. PART_ORDER, PART_INVALID, PART_TOO_SMALL. */
export function checkParts(
  id: string,
  present: readonly PartRow[],
  wanted: readonly CompletedPart[],
  minimumPartBytes: number,
): PartRow[] {
  if (wanted.length === 0) throw fail("PART_INVALID", { number: 1, id });
  for (const [i, { number }] of wanted.entries()) {
    if (i > 0 && number <= (wanted[i - 1] as CompletedPart).number) throw fail("PART_ORDER", { id });
  }
  const byNumber = new Map(present.map((part) => [part.number, part]));
  const chosen = wanted.map(({ number, etag, checksum }) => {
    const part = byNumber.get(number);
    const isSame = part !== undefined && part.etag === etag;
    if (!isSame || (checksum !== undefined && part.checksum !== checksum)) {
      throw fail("PART_INVALID", { number, id });
    }
    return part;
  });
  const small = chosen.slice(0, -1).find((part) => part.sizeBytes < minimumPartBytes);
  if (small !== undefined) {
    const { number, sizeBytes } = small;
    throw fail("PART_TOO_SMALL", { number, id, sizeBytes, minimum: minimumPartBytes });
  }
  return chosen;
}

/** The MD5 of the parts' MD5s, and how many they are. */
export function completedEtag(parts: readonly PartRow[]): string {
  const digest = createHash("md5");
  for (const { etag } of parts) digest.update(etag, "hex");
  return `${digest.digest("hex")}-${parts.length}`;
}
