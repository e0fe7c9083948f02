import { fail } from "./errors.ts";

/** A key as it is kept: well-formed, 1 to 1,024 bytes of UTF-8. KEY_INVALID. */
export function checkKey(key: string): string {
  const name = key.toWellFormed();
  const length = Buffer.byteLength(name);
  if (length < 1 || length > 1024) throw fail("KEY_INVALID", { length });
  return name;
}
