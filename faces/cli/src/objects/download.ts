import { createHash, randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { Writable } from "node:stream";
import { crc32 } from "node:zlib";
import { SkepError } from "@skep/base";
import { fail } from "../errors.ts";
import type { ObjectPath } from "./object-path.ts";
import { brokenOff, type StoreClient } from "./store-client.ts";
import { crcText } from "./upload.ts";

export interface DownloadOptions {
  signal: AbortSignal;
  onSize(bytes: number): void;
  onBytes(bytes: number): void;
}

/**
 * Reads an object whole and compares what came with what was stored: its length, its CRC-32 where it has
 * one, its MD5 where the ETag is one. OBJECT_DIFFERS.
 */
async function read(
  store: StoreClient,
  { bucket, key }: ObjectPath,
  write: (piece: Uint8Array) => Promise<void>,
  { signal, onBytes, onSize }: DownloadOptions,
): Promise<{ sizeBytes: number; etag: string }> {
  const headers = { "x-amz-checksum-mode": "ENABLED" };
  const answer = await store.send({ method: "GET", bucket, key, headers, signal });
  const etag = (answer.headers.etag ?? "").replaceAll('"', "");
  const declared = Number(answer.headers["content-length"] ?? Number.NaN);
  if (Number.isFinite(declared)) onSize(declared);
  const wholeCrc = answer.headers["x-amz-checksum-type"] !== "COMPOSITE";
  const crcWanted = wholeCrc ? answer.headers["x-amz-checksum-crc32"] : undefined;
  const md5 = createHash("md5");
  let crc = 0;
  let sizeBytes = 0;
  try {
    for await (const piece of answer as AsyncIterable<Buffer>) {
      sizeBytes += piece.length;
      md5.update(piece);
      crc = crc32(piece, crc);
      await write(piece);
      onBytes(piece.length);
    }
  } catch (error) {
    signal.throwIfAborted();
    const { code } = error as NodeJS.ErrnoException;
    // The connection's end; a full disk and the like are said as they are.
    throw code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE"
      ? brokenOff(error, { bucket, key })
      : error;
  }
  const what =
    Number.isFinite(declared) && declared !== sizeBytes
      ? "its length"
      : crcWanted !== undefined && crcWanted !== crcText(crc)
        ? "its CRC-32"
        : /^[0-9a-f]{32}$/.test(etag) && etag !== md5.digest("hex")
          ? "its MD5"
          : undefined;
  if (what !== undefined) throw fail("OBJECT_DIFFERS", { path: `${bucket}/${key}`, what });
  return { sizeBytes, etag };
}

/** To a file, which is replaced as a whole when all is there; the file system may be a pipe's or a device's. */
export async function downloadFile(
  store: StoreClient,
  path: ObjectPath,
  file: string,
  options: DownloadOptions,
): Promise<{ sizeBytes: number; etag: string }> {
  const temporary = join(
    dirname(file),
    `.${basename(file).slice(0, 60)}.${randomBytes(4).toString("hex")}.part`,
  );
  try {
    const result = await (async () => {
      await using handle = await open(temporary, "wx");
      return await read(store, path, (piece) => writeAll(handle, piece), options);
    })();
    await rename(temporary, file);
    return result;
  } catch (error) {
    await rm(temporary, { force: true });
    if (error instanceof SkepError || options.signal.aborted || !(error as NodeJS.ErrnoException).syscall)
      throw error;
    const why = (error as Error).message;
    throw fail(
      "COPY_TARGET",
      { path: file, why: `cannot be written: ${why}`, hint: "check the path" },
      { cause: error },
    );
  }
}

async function writeAll(
  handle: { write(data: Uint8Array, offset: number): Promise<{ bytesWritten: number }> },
  piece: Uint8Array,
): Promise<void> {
  for (let at = 0; at < piece.length; ) at += (await handle.write(piece, at)).bytesWritten;
}

/** To a stream, such as standard output; what was written before an error is out. */
export async function downloadStream(
  store: StoreClient,
  path: ObjectPath,
  stream: Writable,
  options: DownloadOptions,
): Promise<{ sizeBytes: number; etag: string }> {
  return read(
    store,
    path,
    (piece) =>
      new Promise((resolve, reject) => {
        stream.write(piece, (error) => (error ? reject(error) : resolve()));
      }),
    options,
  );
}
