import { randomBytes } from "node:crypto";
import { fail } from "./errors.ts";

const pattern = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/;

/**
 * Checks a machine's name: it becomes a folder, a hostname (RFC 1123 label) and a part of socket
 * paths, so it holds at most 48 lower-case letters, digits and dashes.
 */
export function checkName(name: string, what = "machine"): string {
  const why =
    name.length === 0
      ? "it is empty"
      : name.length > 48
        ? `it has ${name.length} characters`
        : /[/\\]/.test(name)
          ? "it is a path"
          : /[^\x20-\x7e]/.test(name)
            ? "it has characters outside ASCII"
            : !pattern.test(name)
              ? "it has characters other than a-z, 0-9 and inner dashes"
              : undefined;
  if (why !== undefined) throw fail("NAME_INVALID", { what, name: name.slice(0, 80), why });
  return name;
}

/** `vol-0123456789abcdef0`: of what people need not name, 68 bits that nobody has had before. */
export function newId(
  kind: "snap" | "st" | "vol",
  random: (bytes: number) => Uint8Array = randomBytes,
): string {
  return `${kind}-${Buffer.from(random(9)).toString("hex").slice(1)}`;
}
