import { createHash } from "node:crypto";

/** Short enough to read in a failure, long enough to tell test bodies apart. */
export function digestOf(bytes: Uint8Array): string {
  return createHash("sha1").update(bytes).digest("hex").slice(0, 12);
}
