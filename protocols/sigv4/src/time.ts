import { headerValue } from "./canonical.ts";
import { fail } from "./errors.ts";
import type { RequestShape } from "./types.ts";

/** When a request was signed. */
export interface SignedTime {
  /** YYYYMMDDTHHMMSSZ. */
  timestamp: string;
  /** Milliseconds since 1970. */
  signedAt: number;
}

/** x-amz-date, else Date; both may be there, and then the first counts. */
export function readTime(request: RequestShape): SignedTime {
  const text = headerValue(request.headers["x-amz-date"] ?? request.headers.date);
  const signedAt = parseTimestamp(text);
  if (signedAt !== undefined && signedAt >= 0) return { timestamp: text, signedAt };
  const written = parseHttpDate(text);
  if (written !== undefined && written >= 0)
    return { timestamp: formatTimestamp(written), signedAt: written };
  throw fail("ACCESS_DENIED", { why: "a valid x-amz-date or Date header is required" });
}

/** Milliseconds of `20130524T000000Z`. */
export function parseTimestamp(text: string): number | undefined {
  if (!/^\d{8}T\d{6}Z$/.test(text)) return undefined;
  const part = (from: number, to: number) => Number(text.slice(from, to));
  const [year, month, day, hour, minute, second] = [
    part(0, 4),
    part(4, 6),
    part(6, 8),
    part(9, 11),
    part(11, 13),
    part(13, 15),
  ] as const;
  const date = new Date(Date.UTC(year, month - 1, day, hour, minute, second));
  // What does not exist, as February 31st, would be taken for another time.
  const isSame =
    date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  const exists = isSame && hour < 24 && minute < 60 && second < 60;
  return exists ? date.getTime() : undefined;
}

export function formatTimestamp(time: number): string {
  return `${new Date(time).toISOString().slice(0, 19).replace(/[-:]/g, "")}Z`;
}

/** RFC 9110, section 5.6.7, the one form that clients still send; for GMT botocore writes -0000, rclone UTC. */
function parseHttpDate(text: string): number | undefined {
  if (!/^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d (?:GMT|UTC|[+-]0000)$/.test(text))
    return undefined;
  const time = Date.parse(text);
  return Number.isNaN(time) ? undefined : time;
}
