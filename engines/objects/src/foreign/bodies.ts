import { fail } from "../errors.ts";
import type { Bytes } from "../types.ts";

export interface Declared {
  key: string;
  sizeBytes: number | undefined;
  signal: AbortSignal | undefined;
}

/** The body in buffers of `pieceBytes`, the last one shorter; its length compared. BODY_SIZE. */
export async function* inPieces(
  body: Uint8Array | Bytes,
  pieceBytes: () => number,
  declared: Declared,
): Bytes {
  let pieces: Uint8Array[] = [];
  let length = 0;
  for await (const bytes of checkedLength(body, declared)) {
    let rest = bytes;
    while (length + rest.length >= pieceBytes()) {
      const room = pieceBytes() - length;
      pieces.push(rest.subarray(0, room));
      rest = rest.subarray(room);
      yield Buffer.concat(pieces);
      pieces = [];
      length = 0;
    }
    if (rest.length > 0) pieces.push(rest);
    length += rest.length;
  }
  if (length > 0) yield Buffer.concat(pieces);
}

/** All of a body that has at most `limit` bytes, else a body that begins with what was read of it. */
export async function gather(
  body: Uint8Array | Bytes,
  limit: number,
  declared: Declared,
): Promise<{ bytes: Uint8Array } | { bytes?: undefined; rest: Bytes }> {
  if (declared.sizeBytes !== undefined && declared.sizeBytes > limit) {
    return { rest: checkedLength(body, declared) };
  }
  const iterator = checkedLength(body, declared)[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let length = 0;
  for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
    pieces.push(next.value);
    length += next.value.length;
    if (length > limit) return { rest: continued(pieces, iterator) };
  }
  return { bytes: Buffer.concat(pieces) };
}

async function* continued(first: Uint8Array[], rest: AsyncIterator<Uint8Array>): Bytes {
  try {
    yield* first;
    for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
  } finally {
    await rest.return?.();
  }
}

/** The same bytes; throws BODY_SIZE where they are more or fewer than declared. */
export async function* checkedLength(body: Uint8Array | Bytes, declared: Declared): Bytes {
  const { key, sizeBytes, signal } = declared;
  const wrong = (received: number) => fail("BODY_SIZE", { key, declared: sizeBytes, received });
  let received = 0;
  signal?.throwIfAborted();
  for await (const bytes of body instanceof Uint8Array ? [body] : body) {
    signal?.throwIfAborted();
    received += bytes.length;
    if (sizeBytes !== undefined && received > sizeBytes) throw wrong(received);
    if (bytes.length > 0) yield bytes;
  }
  if (sizeBytes !== undefined && received < sizeBytes) throw wrong(received);
}
