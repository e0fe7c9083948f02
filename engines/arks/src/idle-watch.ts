import { setTimeout as sleep } from "node:timers/promises";
import type { LiveMachine } from "@skep/machines";
import { IdleSigns } from "./idle-signs.ts";

export interface IdleTimes {
  /** The shortest and the longest time between two looks at a machine. */
  lookMs: { shortest: number; longest: number };
  /** After an attempt that has failed: the first pause, and the longest; each is twice the one before. */
  retryMs: { first: number; longest: number };
}

export const idleTimes: IdleTimes = {
  lookMs: { shortest: 250, longest: 15_000 },
  retryMs: { first: 60_000, longest: 3_600_000 },
};

/** What an attempt came to: somebody came meanwhile, or is there still, or it sleeps. */
export type Outcome = "used" | "suspended";

/** So often it is looked at in the time that it has to be idle for. */
const looks = 8;

/**
 * Looks at a running machine again and again until the signal, keeps what is seen as its `idle`, and calls
 * `suspend` each time that it has been idle for long enough. What that throws is why it is still awake; it is
 * tried again, later and later.
 */
export async function watchIdle(
  live: LiveMachine,
  afterMs: number,
  {
    signal,
    times,
    suspend,
  }: { signal: AbortSignal; times: IdleTimes; suspend(signs: IdleSigns): Promise<Outcome> },
): Promise<void> {
  const { machine } = live;
  const signs = new IdleSigns(live);
  const { shortest, longest } = times.lookMs;
  const lookMs = Math.min(longest, Math.max(shortest, afterMs / looks));
  // Not by the wall clock, which also counts the time that this host was asleep.
  let usedAt = performance.now();
  let failures = 0;
  let failure: string | null = null;
  let retryAt = 0;
  for (;;) {
    const seen = await signs.look().catch((error: unknown) => {
      if (live.alive) throw error;
    });
    signal.throwIfAborted();
    if (seen === undefined) return;
    const { busy, quietMs } = seen;
    const now = performance.now();
    usedAt = busy === null ? Math.max(usedAt, now - quietMs) : now;
    const waits = retryAt > now;
    machine.idle = {
      since: timeOf(usedAt),
      busy,
      failure,
      retryAt: waits ? timeOf(retryAt) : null,
    };
    if (!waits && now - usedAt >= afterMs) {
      try {
        const outcome = await suspend(signs);
        signal.throwIfAborted();
        // Who called it off may have left no other sign.
        if (outcome === "used") usedAt = performance.now();
        failure = null;
        failures = 0;
      } catch (error) {
        signal.throwIfAborted();
        failure = (error as Error).message;
        retryAt = performance.now() + Math.min(times.retryMs.longest, times.retryMs.first * 2 ** failures);
        failures += 1;
      }
    }
    await sleep(lookMs, undefined, { signal, ref: false });
  }
}

/** Of a time by `performance.now()`. */
function timeOf(at: number): string {
  return new Date(Date.now() + at - performance.now()).toISOString();
}
