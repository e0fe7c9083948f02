import { toSkepError } from "@skep/base";
import type { ObjectStore } from "@skep/objects";
import type { Clock } from "../types.ts";

const firstPauseMs = 100;
const longestPauseMs = 10_000;

export function codeOf(error: unknown): string {
  return toSkepError(error).code;
}

export function isMissing(error: unknown): boolean {
  return codeOf(error) === "OBJECT_NOT_FOUND";
}

export function isRefused(error: unknown): boolean {
  return codeOf(error) === "PRECONDITION_FAILED";
}

/** What repeating does not change: the store's answer, or our own verdict of what it gave. */
function isFinal(error: unknown): boolean {
  return isMissing(error) || isRefused(error) || codeOf(error).startsWith("VOLUME_");
}

export interface Patience {
  clock: Clock;
  signal: AbortSignal;
  /** Told each failure, and undefined once it went well. */
  onTrouble(error: unknown): void;
}

/** Asks the store again, with growing pauses, until it answers; the signal ends it with its reason. */
export async function patiently<T>(patience: Patience, ask: () => Promise<T>): Promise<T> {
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 2)) {
    patience.signal.throwIfAborted();
    try {
      const answer = await ask();
      patience.onTrouble(undefined);
      return answer;
    } catch (error) {
      if (isFinal(error)) throw error;
      patience.signal.throwIfAborted();
      patience.onTrouble(error);
      await patience.clock.sleep(pauseMs, patience.signal);
    }
  }
}

/** A whole object; `most` bounds it. OBJECT_NOT_FOUND; RangeError where it is longer or shorter than it said. */
export async function getWhole(
  store: ObjectStore,
  key: string,
  most: number,
  signal?: AbortSignal,
): Promise<{ bytes: Uint8Array; etag: string }> {
  const object = await store.get(key, signal === undefined ? {} : { signal });
  if (object.sizeBytes > most)
    throw new RangeError(`${key} has ${object.sizeBytes} bytes, more than ${most}`);
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of object.body) {
    pieces.push(piece);
    length += piece.length;
    if (length > object.sizeBytes) break;
  }
  if (length !== object.sizeBytes) {
    throw Object.assign(new Error(`${key}: ${length} of ${object.sizeBytes} bytes came`), {
      code: "ECONNRESET",
    });
  }
  return {
    bytes: pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces),
    etag: object.etag,
  };
}

/** All keys below a prefix, with their sizes. */
export async function* keysBelow(
  store: ObjectStore,
  prefix: string,
  signal?: AbortSignal,
): AsyncGenerator<{ key: string; sizeBytes: number }> {
  let continuation: string | undefined;
  do {
    const page = await store.list({
      prefix,
      ...(continuation === undefined ? {} : { continuation }),
      ...(signal === undefined ? {} : { signal }),
    });
    yield* page.objects;
    continuation = page.next;
  } while (continuation !== undefined);
}
