import { toSkepError } from "@skep/base";
import type { Clock } from "./types.ts";

const firstPauseMs = 100;
const longestPauseMs = 10_000;

/** What is told while something does not succeed. */
export interface Problems {
  failed(message: string): void;
  succeeded(): void;
}

/** Tries until it succeeds, the signal is aborted, or the failure is one that trying does not help against. */
export async function persistently<T>(
  work: () => Promise<T>,
  options: { clock: Clock; signal: AbortSignal; problems: Problems; isFinal?: (error: unknown) => boolean },
): Promise<T> {
  const { clock, signal, problems, isFinal } = options;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, longestPauseMs)) {
    signal.throwIfAborted();
    try {
      const result = await work();
      problems.succeeded();
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (isFinal?.(error) === true) throw error;
      problems.failed(toSkepError(error).message);
    }
    await clock.sleep(pauseMs, signal);
  }
}
