import { createHash, hash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Attributes, Bytes } from "@skep/objects";
import { type Payload, payloadBytes } from "@skep/sigv4";
import { type Checksum, createChecksum } from "./checksums.ts";
import type { BodyOptions, IncomingBody } from "./context.ts";
import {
  type AnnouncedChecksum,
  announcedChecksum,
  announcedMd5,
  checksumHeader,
  isChecksum,
  trailerNames,
} from "./digests.ts";
import { fail } from "./errors.ts";
import { type Patience, socketBody } from "./socket-body.ts";

/** The largest object that one request may carry, and what a part may have. */
export const maxPutBytes = 5 * 1024 ** 3;

export interface BodySource {
  req: IncomingMessage;
  payload: Payload;
  patience: Patience;
  /** Asks the client for the body where it waits to be asked. */
  begin(): void;
}

/** A request's body: unframed, bounded, and compared with all that was said of it. */
export function incomingBody(source: BodySource, options: BodyOptions = {}): IncomingBody {
  const { req, payload } = source;
  const { limitBytes = maxPutBytes } = options;
  const sizeBytes = declaredSize(req, payload);
  if (sizeBytes !== undefined && sizeBytes > limitBytes) throw tooLarge(sizeBytes, limitBytes);
  const md5 = announcedMd5(req.headers);
  const announced = options.ignoreChecksum === true ? undefined : announcedChecksum(req.headers);
  const algorithm = announced?.algorithm ?? options.checksum;
  const checksum = algorithm === undefined ? undefined : createChecksum(algorithm);
  let trailers: Record<string, string> = {};
  const raw = () => {
    source.begin();
    return socketBody(req, source.patience);
  };
  const proved = () =>
    payloadBytes(raw(), payload, {
      decodedBytes: sizeBytes,
      trailerNames: trailerNames(req.headers),
      onTrailers: (all) => {
        trailers = all;
      },
    });
  return {
    sizeBytes,
    bytes: {
      [Symbol.asyncIterator]: () => counted(proved(), limitBytes, sizeBytes, checksum),
    },
    async whole() {
      // One hash over all bytes is quicker than one over pieces.
      const oneDigest = payload.kind === "digest";
      const pieces: Uint8Array[] = [];
      for await (const piece of counted(oneDigest ? raw() : proved(), limitBytes, sizeBytes, undefined)) {
        pieces.push(piece);
      }
      const bytes = pieces.length === 1 ? pieces[0]! : Buffer.concat(pieces);
      if (oneDigest && hash("sha256", bytes, "hex") !== payload.sha256) {
        throw fail("XAmzContentSHA256Mismatch");
      }
      checksum?.update(bytes);
      return bytes;
    },
    verify(actualMd5) {
      if (md5 !== undefined && md5 !== actualMd5) throw fail("BadDigest", { what: "Content-MD5" });
      if (checksum === undefined || algorithm === undefined) return undefined;
      const value = checksum.digest();
      if (announced !== undefined) compareChecksum(announced, trailers, value);
      return { algorithm, value, type: "FULL_OBJECT" } satisfies Attributes["checksum"];
    },
  };
}

/** The whole body with every digest compared, for requests whose body is a document. */
export async function wholeBody(body: IncomingBody, hasMd5: boolean): Promise<Uint8Array> {
  const bytes = await body.whole();
  body.verify(hasMd5 ? createHash("md5").update(bytes).digest("hex") : "");
  return bytes;
}

function compareChecksum(
  announced: AnnouncedChecksum,
  trailers: Readonly<Record<string, string>>,
  value: string,
): void {
  const name = checksumHeader(announced.algorithm);
  const expected = announced.value ?? trailers[name];
  if (expected === undefined) {
    throw fail("MalformedTrailerError", { why: `the announced trailing header ${name} has not come` });
  }
  if (!isChecksum(announced.algorithm, expected)) {
    throw fail("InvalidRequest", { why: `Value for ${name} trailing header is invalid.` });
  }
  if (expected !== value) throw fail("BadDigest", { what: announced.algorithm });
}

/** Of the object, without framing. */
function declaredSize(req: IncomingMessage, payload: Payload): number | undefined {
  if (payload.kind === "chunked") return decodedSize(req.headers["x-amz-decoded-content-length"]);
  const length = req.headers["content-length"];
  if (length !== undefined) return Number(length);
  if (req.headers["transfer-encoding"] === undefined) throw fail("MissingContentLength");
  return undefined;
}

function decodedSize(text: string | string[] | undefined): number {
  if (text === undefined) throw fail("MissingContentLength");
  if (typeof text !== "string" || !/^\d{1,15}$/.test(text)) {
    throw fail("InvalidArgument", { why: "x-amz-decoded-content-length must be a number" });
  }
  return Number(text);
}

async function* counted(
  source: Bytes,
  limitBytes: number,
  sizeBytes: number | undefined,
  checksum: Checksum | undefined,
): AsyncGenerator<Uint8Array> {
  let received = 0;
  for await (const piece of source) {
    received += piece.length;
    if (received > limitBytes) throw tooLarge(received, limitBytes);
    checksum?.update(piece);
    yield piece;
  }
  if (sizeBytes !== undefined && received !== sizeBytes) throw fail("IncompleteBody");
}

function tooLarge(sizeBytes: number, limitBytes: number) {
  return limitBytes < 64 * 1024 ** 2
    ? fail("MaxMessageLengthExceeded", { MaxMessageLengthBytes: limitBytes })
    : fail("EntityTooLarge", { ProposedSize: sizeBytes, MaxSizeAllowed: limitBytes });
}
