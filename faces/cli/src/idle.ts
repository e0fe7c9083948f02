import type { Machine } from "@skep/api";
import { formatAge, parseDuration } from "@skep/base";
import { usage } from "./errors.ts";

/** `10m`; null for `off`. */
export function parseSuspendAfter(value: string): number | null {
  if (value === "off") return null;
  const seconds = parseDuration(value) / 1000;
  if (seconds < 1) throw usage(`"${value}" is too short to be idle`, "write 1s or more, as in 10m; or off");
  return seconds;
}

/** `10m, unused for 3m`; null where it stays awake. */
export function suspendAfterText(
  { suspendAfterSeconds, idle, suspended }: Machine,
  now = Date.now(),
): string | null {
  if (suspended?.idle === true) return "asleep because nobody used it; a connection wakes it";
  if (suspendAfterSeconds === null) return null;
  const whole = suspendAfterSeconds >= 60 && suspendAfterSeconds % 60 === 0;
  const after = whole ? formatAge(suspendAfterSeconds * 1000) : `${suspendAfterSeconds}s`;
  if (idle === null) return after;
  const { busy, failure, retryAt, since } = idle;
  const again = retryAt === null ? "" : `; again in ${formatAge(Math.max(0, Date.parse(retryAt) - now))}`;
  if (failure !== null)
    return `${after}, not suspended: ${failure.split("\n", 1)[0]?.replace(/:$/, "")}${again}`;
  if (busy !== null) return `${after}, in use: ${busy}`;
  return `${after}, unused for ${formatAge(now - Date.parse(since))}`;
}
