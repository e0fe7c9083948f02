import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { fail } from "../errors.ts";
import { xmlText } from "./answer.ts";
import type { ObjectPath } from "./object-path.ts";
import type { StoreClient } from "./store-client.ts";

const firstPartBytes = 16 * 1024 * 1024;
const partsOfOneSize = 1000;
const partsAtOnce = 3;

export interface UploadOptions {
  contentType?: string | undefined;
  signal: AbortSignal;
  /** Told of each part that is stored. */
  onBytes(bytes: number): void;
}

/** How large part `number` is: with 10,000 parts, any object that S3 allows fits. */
export function partBytes(number: number): number {
  return firstPartBytes * 2 ** Math.floor((number - 1) / partsOfOneSize);
}

/** As S3 writes a CRC-32: base64 of its four bytes. */
export function crcText(crc: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(crc);
  return bytes.toString("base64");
}

/**
 * Stores a stream of any length under a key: in one request where it is short, else in parts, a few at a
 * time, each with its checksum. Where it fails, nothing is left of it.
 */
export async function upload(
  store: StoreClient,
  { bucket, key }: ObjectPath,
  source: AsyncIterable<Uint8Array>,
  options: UploadOptions,
): Promise<{ sizeBytes: number; etag: string }> {
  const { signal, onBytes } = options;
  const parts = inParts(source, signal);
  const first = (await parts.next()).value ?? new Uint8Array();
  const type: Record<string, string> =
    options.contentType === undefined ? {} : { "content-type": options.contentType };
  const second = first.length < firstPartBytes ? undefined : (await parts.next()).value;
  if (second === undefined) {
    const headers = { ...type, "x-amz-checksum-crc32": crcText(crc32(first)) };
    const answer = await store.send({ method: "PUT", bucket, key, headers, body: first, signal });
    answer.resume();
    const etag = unquoted(answer.headers.etag);
    if (etag !== createHash("md5").update(first).digest("hex")) {
      throw fail("OBJECT_DIFFERS", { path: `${bucket}/${key}`, what: "its MD5" });
    }
    onBytes(first.length);
    return { sizeBytes: first.length, etag };
  }
  return uploadParts(store, { bucket, key }, [first, second], parts, type, options);
}

async function uploadParts(
  store: StoreClient,
  path: ObjectPath,
  begun: Uint8Array[],
  rest: AsyncGenerator<Uint8Array, undefined>,
  type: Record<string, string>,
  { signal, onBytes }: UploadOptions,
): Promise<{ sizeBytes: number; etag: string }> {
  const created = await store.ask({
    ...path,
    method: "POST",
    query: { uploads: "" },
    headers: { ...type, "x-amz-checksum-algorithm": "CRC32", "x-amz-checksum-type": "FULL_OBJECT" },
    signal,
  });
  const uploadId = xmlText(created, "UploadId") ?? "";
  const stored: { number: number; etag: string; crc: string }[] = [];
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  let sizeBytes = 0;
  let number = 0;
  try {
    const next = async (): Promise<Uint8Array | undefined> => begun.shift() ?? (await rest.next()).value;
    // One at a time asks the source, so that parts are numbered in its order.
    let asking: Promise<unknown> = Promise.resolve();
    const worker = async () => {
      for (;;) {
        const mine = asking.then(async () => {
          const body = await next();
          if (body === undefined) return undefined;
          number += 1;
          return { number, body };
        });
        asking = mine.catch(() => {});
        const part = await mine;
        if (part === undefined) return;
        const crc = crcText(crc32(part.body));
        const answer = await store.send({
          ...path,
          method: "PUT",
          query: { partNumber: String(part.number), uploadId },
          headers: { "x-amz-checksum-crc32": crc },
          body: part.body,
          signal: either,
        });
        answer.resume();
        stored.push({ number: part.number, etag: unquoted(answer.headers.etag), crc });
        sizeBytes += part.body.length;
        onBytes(part.body.length);
      }
    };
    const workers = Array.from({ length: partsAtOnce }, () =>
      worker().catch((error: unknown) => {
        failed.abort(error);
        throw error;
      }),
    );
    const results = await Promise.allSettled(workers);
    signal.throwIfAborted();
    if (failed.signal.aborted) throw failed.signal.reason;
    if (results.some(({ status }) => status === "rejected")) throw failed.signal.reason;
    stored.sort((one, other) => one.number - other.number);
    const body = Buffer.from(completion(stored));
    const done = await store.ask({ ...path, method: "POST", query: { uploadId }, body, signal });
    // S3 may say 200 before it knows how it ends.
    const code = xmlText(done, "Code");
    if (code !== undefined)
      throw fail("S3_FAILED", {
        what: `${path.bucket}/${path.key}`,
        status: 200,
        why: xmlText(done, "Message") ?? code,
      });
    return { sizeBytes, etag: unquoted(xmlText(done, "ETag")) };
  } catch (error) {
    const abort = {
      ...path,
      method: "DELETE",
      query: { uploadId },
      signal: AbortSignal.timeout(20_000),
    } as const;
    await store.ask(abort).catch(() => {}); // the first failure is what is told
    throw error;
  }
}

function completion(parts: readonly { number: number; etag: string; crc: string }[]): string {
  const listed = parts.map(
    ({ number, etag, crc }) =>
      `<Part><PartNumber>${number}</PartNumber><ETag>"${etag}"</ETag><ChecksumCRC32>${crc}</ChecksumCRC32></Part>`,
  );
  return `<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">${listed.join("")}</CompleteMultipartUpload>`;
}

function unquoted(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "");
}

/** The stream in parts of the size that each one has to have; nothing for an empty one. */
async function* inParts(
  source: AsyncIterable<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, undefined> {
  let number = 1;
  let part = Buffer.allocUnsafe(0);
  let filled = 0;
  for await (const piece of source) {
    signal.throwIfAborted();
    let at = 0;
    while (at < piece.length) {
      if (filled === part.length) {
        // Grows with what comes: small objects need little.
        const wanted = Math.min(partBytes(number), Math.max(1024 * 1024, part.length * 2));
        const grown = Buffer.allocUnsafe(wanted);
        part.copy(grown, 0, 0, filled);
        part = grown;
      }
      const taken = Math.min(piece.length - at, part.length - filled);
      part.set(piece.subarray(at, at + taken), filled);
      filled += taken;
      at += taken;
      if (filled === partBytes(number)) {
        yield part;
        number += 1;
        part = Buffer.allocUnsafe(0);
        filled = 0;
      }
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
  return undefined;
}
