import { createHash } from "node:crypto";
import { type ChunkedOptions, decodeChunked } from "./chunks.ts";
import { fail } from "./errors.ts";
import { sameSignature } from "./keys.ts";
import type { Payload } from "./types.ts";

export const unsignedPayload = "UNSIGNED-PAYLOAD";
const streaming = "STREAMING-";

/** What `x-amz-content-sha256` says of the body. */
export function readPayload(text: string): Payload {
  if (text === unsignedPayload) return { kind: "unsigned" };
  if (/^[0-9a-fA-F]{64}$/.test(text)) return { kind: "digest", sha256: text.toLowerCase() };
  switch (text) {
    case `${streaming}AWS4-HMAC-SHA256-PAYLOAD`:
      return { kind: "chunked", signed: true, trailer: false };
    case `${streaming}AWS4-HMAC-SHA256-PAYLOAD-TRAILER`:
      return { kind: "chunked", signed: true, trailer: true };
    case `${streaming}UNSIGNED-PAYLOAD-TRAILER`:
      return { kind: "chunked", signed: false, trailer: true };
  }
  if (/^STREAMING-AWS4-[A-Z0-9-]{1,64}$/.test(text)) throw fail("ALGORITHM_UNSUPPORTED", { algorithm: text });
  throw fail("ARGUMENT_INVALID", {
    why: "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a SHA-256 in hexadecimal",
  });
}

/**
 * The bytes of a request's body as its signature has them: unframed, and proved when the last one has
 * come. Whoever keeps them must wait for the end. PAYLOAD_MISMATCH, and what `decodeChunked` throws.
 */
export function payloadBytes(
  source: AsyncIterable<Uint8Array>,
  payload: Payload,
  options: ChunkedOptions,
): AsyncIterable<Uint8Array> {
  if (payload.kind === "unsigned") return source;
  if (payload.kind === "digest") return checkDigest(source, payload.sha256);
  return decodeChunked(source, payload, options);
}

async function* checkDigest(
  source: AsyncIterable<Uint8Array>,
  declared: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  const hash = createHash("sha256");
  for await (const piece of source) {
    hash.update(piece);
    yield piece;
  }
  const received = hash.digest("hex");
  if (!sameSignature(declared, received)) throw fail("PAYLOAD_MISMATCH", { received, declared });
}
