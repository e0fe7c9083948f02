import type { Core } from "./core.ts";
import { fail } from "./errors.ts";

/** Who gives up waiting leaves the work to itself. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  work.catch(() => undefined);
  signal.throwIfAborted();
  const given = Promise.withResolvers<never>();
  const abort = () => given.reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work, given.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

/** Says why a verb took so long that somebody has given it up, and what becomes of it. */
export function givenUp({ id, ownership }: Core, hasBegun: boolean, cause: unknown): Error {
  const { problem } = ownership;
  const why = problem === null ? "" : `: its store does not answer (${problem.message})`;
  const end = hasBegun ? "it is left to itself, and done once the store answers" : "it has not begun";
  return fail("VOLUME_GIVEN_UP", { id, why, end }, { cause });
}
