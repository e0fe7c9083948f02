import { setTimeout as sleep } from "node:timers/promises";
import type { LiveMachine } from "@skep/machines";

/**
 * What a guest's helper answers to what it was asked; where nothing in the guest listens, what `unheard` gives, soon.
 * QEMU knows who listens as soon as the guest runs, but a guest that came out of a state may take `limitMs`.
 */
export async function heard<T>(
  asked: Promise<T>,
  { live, limitMs, unheard }: { live: LiveMachine; limitMs: number; unheard(): T },
): Promise<T> {
  const over = new AbortController();
  const lacking = sleep(limitMs, undefined, { signal: over.signal }).then(async () =>
    (await live.hasHelper()) ? await asked : unheard(),
  );
  lacking.catch(() => undefined);
  try {
    return await Promise.race([asked, lacking]);
  } finally {
    over.abort();
  }
}
