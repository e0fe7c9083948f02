import { rm } from "node:fs/promises";
import type { RestartPolicy, Restarts } from "@skep/api/schemas";
import { readVersionedJson, writeVersionedJson } from "@skep/base";

/** How a QEMU ended: `requested` and `monitor` by a person, `signal` by SIGTERM, `guest` by a shutdown inside. */
export type EndKind = "requested" | "monitor" | "signal" | "guest" | "failure";

export interface RestartTimes {
  /** Before the first restart; each further one in a row waits twice as long, up to `longestMs`. */
  firstMs: number;
  longestMs: number;
  /** Having done well for so long, a machine begins a new row. */
  settledMs: number;
}

export const restartTimes: RestartTimes = { firstMs: 1000, longestMs: 300_000, settledMs: 600_000 };

const none: Restarts = { count: 0, inARow: 0, lastAt: null, why: null, dueAt: null, gaveUp: false };

export function wantsRestart({ policy }: RestartPolicy, ended: EndKind): boolean {
  if (policy === "no" || ended === "requested" || ended === "monitor") return false;
  return policy === "always" || ended === "failure";
}

/** What is to be done after a machine failed that had done well for `goodMs`: when it is tried, or that it is not. */
export function plan(
  policy: RestartPolicy,
  before: Restarts | null,
  failed: { why: string; goodMs: number; now: number },
  { firstMs, longestMs, settledMs }: RestartTimes = restartTimes,
): Restarts {
  const inARow = failed.goodMs >= settledMs ? 0 : (before?.inARow ?? 0);
  const record = { ...(before ?? none), inARow, why: failed.why };
  if (policy.attempts !== null && inARow >= policy.attempts) return { ...record, dueAt: null, gaveUp: true };
  const delayMs = Math.min(longestMs, firstMs * 2 ** inARow);
  return { ...record, dueAt: new Date(failed.now + delayMs).toISOString(), gaveUp: false };
}

/** How long to wait for what is due; a clock that was set back makes nobody wait for years. */
export function dueInMs(dueAt: string, now: number, { longestMs }: RestartTimes = restartTimes): number {
  return Math.min(longestMs, Math.max(0, Date.parse(dueAt) - now));
}

/** Null where nothing was done, or it cannot be read: it only says how patient to be. */
export async function readRestarts(path: string): Promise<Restarts | null> {
  const { version: _, ...record } = await readVersionedJson<Restarts & { version: 1 }>(path, 1).catch(() => ({
    version: 1 as const,
    ...none,
  }));
  const counted = [record.count, record.inARow].every((count) => Number.isSafeInteger(count) && count >= 0);
  const due = record.dueAt === null || !Number.isNaN(Date.parse(record.dueAt));
  const told = record.count > 0 || record.dueAt !== null || record.gaveUp;
  return counted && due && told ? record : null;
}

export async function writeRestarts(path: string, record: Restarts | null): Promise<void> {
  if (record === null) await rm(path, { force: true });
  else await writeVersionedJson(path, { version: 1, ...record });
}
