import { createHash, hash } from "node:crypto";
import { ChunkCodec } from "./codec.ts";
import { fail } from "./errors.ts";
import { emptySha256, sameSignature } from "./keys.ts";
import type { ChunkSigner, Payload } from "./types.ts";

export interface ChunkedOptions {
  /** `x-amz-decoded-content-length`; LENGTH_MISSING without. */
  decodedBytes?: number | undefined;
  /** Names in `x-amz-trailer`, in lower case; others are refused. */
  trailerNames?: readonly string[];
  /** Given the trailing headers (without their signature) when all is verified. */
  onTrailers?(trailers: Record<string, string>): void;
  /** A signed chunk up to this size is held back until its signature is verified; 1 MiB without. */
  heldBytes?: number;
}

const trailerSignature = "x-amz-trailer-signature";

/**
 * The payload of an aws-chunked body. Every signature is verified when its chunk is complete, and small
 * chunks before any byte of them is given; of larger ones bytes go ahead, and the end throws. Nothing
 * of it may count before the end.
 * SIGNATURE_MISMATCH, BODY_INCOMPLETE, CHUNK_MALFORMED, TRAILER_MALFORMED, LENGTH_MISSING.
 */
export async function* decodeChunked(
  source: AsyncIterable<Uint8Array>,
  payload: Extract<Payload, { kind: "chunked" }>,
  options: ChunkedOptions,
): AsyncGenerator<Uint8Array, void, undefined> {
  const { decodedBytes, heldBytes = 1_048_576 } = options;
  if (decodedBytes === undefined) throw fail("LENGTH_MISSING");
  if (payload.signed && payload.signer === undefined) throw new TypeError("signed chunks need their signer");
  const { signed, trailer, signer } = payload;
  const codec = new ChunkCodec({ signed, trailer, decodedBytes });
  const proof = signer === undefined ? undefined : new ChunkProof(signer, heldBytes);
  const trailers = new Map<string, string>();
  for await (const bytes of source) {
    for (const event of codec.push(bytes)) {
      if (event.type === "trailer") {
        addTrailer(trailers, event, options.trailerNames);
      } else if (proof === undefined) {
        if (event.type === "data") yield event.bytes;
      } else if (event.type === "chunk") {
        proof.begin(event.sizeBytes, event.signature as string);
      } else if (event.type === "data") {
        if (proof.add(event.bytes)) yield event.bytes;
      } else {
        yield* proof.end();
      }
    }
  }
  codec.finish();
  const signature = trailers.get(trailerSignature);
  trailers.delete(trailerSignature);
  if (signer !== undefined && trailer) checkTrailers(signer, trailers, signature);
  options.onTrailers?.(Object.fromEntries(trailers));
}

/** One chunk at a time: its bytes, and the signature that they must have. */
class ChunkProof {
  readonly #signer: ChunkSigner;
  readonly #heldBytes: number;
  #hash = createHash("sha256");
  #signature = "";
  #hold = true;
  #held: Uint8Array[] = [];

  constructor(signer: ChunkSigner, heldBytes: number) {
    this.#signer = signer;
    this.#heldBytes = heldBytes;
  }

  begin(sizeBytes: number, signature: string): void {
    this.#signature = signature;
    this.#hold = sizeBytes <= this.#heldBytes;
    this.#hash = createHash("sha256");
  }

  /** Whether the bytes may go ahead. */
  add(bytes: Uint8Array): boolean {
    this.#hash.update(bytes);
    if (!this.#hold) return true;
    this.#held.push(bytes);
    // A client that sends single bytes shall not make us hold a buffer for each.
    if (this.#held.length > 256) this.#held = [Buffer.concat(this.#held)];
    return false;
  }

  /** What was held back and is proved now. */
  end(): Uint8Array[] {
    if (!sameSignature(this.#signer.next(this.#hash.digest("hex")), this.#signature)) {
      throw fail("SIGNATURE_MISMATCH", { what: "a chunk of the body" });
    }
    const held = this.#held;
    this.#held = [];
    return held;
  }
}

function addTrailer(
  trailers: Map<string, string>,
  { name, value }: { name: string; value: string },
  names: readonly string[] | undefined,
): void {
  if (trailers.has(name)) throw fail("TRAILER_MALFORMED", { why: `${name} came twice` });
  if (trailers.has(trailerSignature)) {
    throw fail("TRAILER_MALFORMED", { why: "something follows their signature" });
  }
  if (names !== undefined && name !== trailerSignature && !names.includes(name)) {
    throw fail("TRAILER_MALFORMED", { why: `x-amz-trailer does not announce ${name}` });
  }
  trailers.set(name, value);
}

function checkTrailers(
  signer: ChunkSigner,
  trailers: ReadonlyMap<string, string>,
  signature: string | undefined,
): void {
  if (signature === undefined) throw fail("TRAILER_MALFORMED", { why: "their signature has not come" });
  if (!sameSignature(signer.trailer(hash("sha256", canonicalTrailers(trailers), "hex")), signature)) {
    throw fail("SIGNATURE_MISMATCH", { what: "the trailing headers" });
  }
}

function canonicalTrailers(trailers: ReadonlyMap<string, string>): Buffer {
  const lines = [...trailers].map(([name, value]) => `${name}:${value}\n`);
  return Buffer.from(lines.sort().join(""), "latin1");
}

/** Frames a body as aws-chunked; signed where there is a signer. Trailers are asked for at the end. */
export async function* encodeChunked(
  source: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  signer: ChunkSigner | undefined,
  trailers?: () => Record<string, string>,
): AsyncGenerator<Uint8Array, void, undefined> {
  const head = (size: number, sha256: () => string) =>
    Buffer.from(
      `${size.toString(16)}${signer === undefined ? "" : `;chunk-signature=${signer.next(sha256())}`}\r\n`,
    );
  const lineEnd = Buffer.from("\r\n");
  for await (const bytes of source) {
    if (bytes.length === 0) continue;
    yield head(bytes.length, () => hash("sha256", bytes, "hex"));
    yield bytes;
    yield lineEnd;
  }
  yield head(0, () => emptySha256);
  if (trailers !== undefined) {
    const entries = new Map(Object.entries(trailers()));
    const canonical = canonicalTrailers(entries);
    for (const [name, value] of entries) yield Buffer.from(`${name}:${value}\r\n`, "latin1");
    if (signer !== undefined) {
      yield Buffer.from(`${trailerSignature}:${signer.trailer(hash("sha256", canonical, "hex"))}\r\n`);
    }
  }
  yield lineEnd;
}
