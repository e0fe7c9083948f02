import { fail } from "./errors.ts";

const binary: Record<string, number> = { k: 1, m: 2, g: 3, t: 4, p: 5 };

/**
 * Bytes of a size as people write it. `K M G T P` and `KiB MiB GiB …` are powers of 1024,
 * `KB MB GB …` powers of 1000; a bare number counts in `bareUnit` (default bytes).
 */
export function parseSize(text: string, bareUnit: "B" | "MiB" = "B"): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b)?|b)?\s*$/i.exec(text);
  if (match === null) throw fail("SIZE_INVALID", { value: text, why: "" });
  const [, digits, unit, suffix] = match;
  let factor = 1;
  if (unit !== undefined) {
    const base = suffix !== undefined && suffix.length === 1 ? 1000 : 1024;
    factor = base ** (binary[unit.toLowerCase()] as number);
  } else if (!/b\s*$/i.test(text) && bareUnit === "MiB") {
    factor = 1024 ** 2;
  }
  const bytes = Math.round(Number(digits) * factor);
  if (!Number.isSafeInteger(bytes)) throw fail("SIZE_INVALID", { value: text, why: ": too large" });
  if (bytes === 0) throw fail("SIZE_INVALID", { value: text, why: " above zero" });
  return bytes;
}

/** `1536 MiB` → `1.5 GiB`: binary units, at most one digit after the point. */
export function formatSize(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

const seconds: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** Milliseconds of `30s`, `10m`, `2h`, `7d`; a bare number is seconds. */
export function parseDuration(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)?\s*$/i.exec(text);
  if (match === null) throw fail("DURATION_INVALID", { value: text });
  return Math.round(Number(match[1]) * (seconds[(match[2] ?? "s").toLowerCase()] as number) * 1000);
}

/** `95000` → `1m`: the largest whole unit, as in `ls` columns. */
export function formatAge(milliseconds: number): string {
  const total = Math.max(0, Math.floor(milliseconds / 1000));
  if (total < 60) return `${total}s`;
  if (total < 3600) return `${Math.floor(total / 60)}m`;
  if (total < 86_400 * 2) return `${Math.floor(total / 3600)}h`;
  return `${Math.floor(total / 86_400)}d`;
}
