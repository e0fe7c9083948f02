import type { Readable } from "node:stream";
import { GetObjectCommand, type GetObjectCommandOutput } from "@aws-sdk/client-s3";
import { fail } from "../errors.ts";
import type { ByteRange, Bytes, ObjectInfo, StoredObject } from "../types.ts";
import { clampRange } from "../versions.ts";
import { type Connection, plain, statusOf } from "./connection.ts";
import { aborting, infoOf, quote, unquote } from "./wire.ts";

/** Bodies up to this size are read at once, so that none of them holds a connection. */
const wholeBytes = 256 * 1024;
/** Tries in a row that gave no byte. */
const fruitless = 3;

export interface ReadRequest {
  range?: Partial<ByteRange>;
  ifMatch?: string;
  signal?: AbortSignal;
  head(): Promise<ObjectInfo & { metadata: Record<string, string> }>;
}

/** An object, whose body goes on where it was when a connection breaks. */
export async function readObject(
  connection: Connection,
  target: { Bucket: string; Key: string },
  key: string,
  { range, ifMatch, signal, head }: ReadRequest,
): Promise<StoredObject> {
  const { client } = connection;
  const request = (span: Partial<ByteRange> | undefined, etag: string | undefined) =>
    client.send(
      new GetObjectCommand({
        ...target,
        ...(span === undefined ? {} : { Range: `bytes=${span.start ?? 0}-${lastOf(span)}` }),
        ...(etag === undefined ? {} : { IfMatch: quote(etag) }),
      }),
      aborting(signal),
    );
  /** What a range that the server cannot serve is of this object: nothing of an empty one, or an error. */
  const none = async (): Promise<StoredObject> => {
    const found = await head();
    return { ...found, range: clampRange(range, key, found.sizeBytes), body: nothing() };
  };
  if (range?.end !== undefined && range.end <= (range.start ?? 0)) return none();
  let found: GetObjectCommandOutput;
  try {
    found = (await connection.send(() => request(range, ifMatch), { key }, signal)).value;
  } catch (error) {
    if (statusOf((error as Error).cause) === 416) return none();
    throw plain(error);
  }
  const span = spanOf(connection, found, range);
  const etag = unquote(found.ETag);
  const body = resumable(connection, {
    key,
    first: found,
    start: span.start,
    end: span.end,
    again: (start) => request({ start, end: span.end }, etag),
    signal,
  });
  const object = {
    ...infoOf(key, found),
    sizeBytes: span.sizeBytes,
    metadata: found.Metadata ?? {},
    range: { start: span.start, end: span.end },
  };
  return { ...object, body: span.end - span.start <= wholeBytes ? replayed(await all(body)) : body };
}

function lastOf({ end }: Partial<ByteRange>): number | "" {
  return end === undefined ? "" : end - 1;
}

/** What of the object the answer holds. A server may send all of it where a part was asked for. */
function spanOf(
  connection: Connection,
  found: GetObjectCommandOutput,
  range: Partial<ByteRange> | undefined,
): ByteRange & { sizeBytes: number } {
  const length = found.ContentLength ?? 0;
  const match = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(found.ContentRange ?? "");
  if (match !== null) {
    const [start, last, sizeBytes] = match.slice(1).map(Number) as [number, number, number];
    return { start, end: last + 1, sizeBytes };
  }
  if ((range?.start ?? 0) === 0 && (range?.end ?? length) >= length) {
    return { start: 0, end: length, sizeBytes: length };
  }
  (found.Body as Readable | undefined)?.destroy();
  throw fail("FOREIGN_FAILED", { endpoint: connection.endpoint, why: "it does not serve ranges" });
}

interface Resumable {
  key: string;
  first: GetObjectCommandOutput;
  start: number;
  end: number;
  again(start: number): Promise<GetObjectCommandOutput>;
  signal: AbortSignal | undefined;
}

async function* resumable(connection: Connection, source: Resumable): Bytes {
  const { key, end, signal } = source;
  let at = source.start;
  let found = source.first;
  let failures = 0;
  for (;;) {
    const before = at;
    let cause: unknown;
    try {
      for await (const bytes of found.Body as Readable as AsyncIterable<Uint8Array>) {
        signal?.throwIfAborted();
        at += bytes.length;
        if (at > end)
          throw fail("FOREIGN_FAILED", { endpoint: connection.endpoint, why: "it sent too much" });
        yield bytes;
      }
    } catch (error) {
      signal?.throwIfAborted();
      if (at > end) throw error;
      cause = error;
    }
    if (at === end) return;
    failures = at > before ? 0 : failures + 1;
    if (failures >= fruitless) {
      throw connection.failure(cause ?? new Error("it sends less than it announces"), { key });
    }
    found = await connection.ask(() => source.again(at), { key }, signal);
  }
}

async function all(body: Bytes): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  for await (const bytes of body) pieces.push(bytes);
  return Buffer.concat(pieces);
}

async function* replayed(bytes: Uint8Array): Bytes {
  if (bytes.length > 0) yield bytes;
}

async function* nothing(): Bytes {}
