import type { IncomingMessage } from "node:http";
import { fail } from "./errors.ts";

/** How long a client may take. */
export interface Patience {
  /** Without a byte of the body, or without taking one of the answer. */
  idleMs: number;
  /** Of the bytes waited for, on the whole; a client below holds a connection for nothing. */
  minBytesPerSecond: number;
}

/**
 * What comes of a request's body, as it comes. Only time spent waiting for the client counts: the store
 * may be as slow as it is. RequestTimeout; IncompleteBody where the client goes away.
 */
export async function* socketBody(req: IncomingMessage, patience: Patience): AsyncGenerator<Uint8Array> {
  let wake: (() => void) | undefined;
  let ended = req.readableEnded;
  let gone = req.destroyed && !ended;
  const notice = () => {
    wake?.();
    wake = undefined;
  };
  const onEnd = () => {
    ended = true;
    notice();
  };
  const onClose = () => {
    gone = true;
    notice();
  };
  req.on("readable", notice).on("end", onEnd).on("close", onClose).on("error", onClose);
  let received = 0;
  let waitedMs = 0;
  try {
    for (;;) {
      const piece = req.read() as Buffer | null;
      if (piece !== null) {
        received += piece.length;
        yield piece;
        continue;
      }
      if (ended) return;
      if (gone) throw fail("IncompleteBody");
      const grantedMs = patience.idleMs + (received / patience.minBytesPerSecond) * 1000 - waitedMs;
      const before = performance.now();
      const late = await new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(true), Math.min(patience.idleMs, Math.max(grantedMs, 0)));
        wake = () => {
          clearTimeout(timer);
          resolve(false);
        };
      });
      if (late) throw fail("RequestTimeout");
      waitedMs += performance.now() - before;
    }
  } finally {
    req.off("readable", notice).off("end", onEnd).off("close", onClose).off("error", onClose);
    // Without a listener an error of the socket would be nobody's.
    if (!ended) req.on("error", () => {});
  }
}
