import { crc32 } from "node:zlib";
import { baseErrors, errorsOf, isErrno } from "@skep/base";
import type { AsyncFile, Files } from "../files.ts";
import type { Bytes } from "../types.ts";
import { blobVersion, blockCount, decodeTrailer, trailerBytes } from "./format.ts";

const failBase = errorsOf(baseErrors);

/** Bytes read and verified at once: a multiple of the block. */
const readBytes = 1024 * 1024;

/** Gives memory for bytes that are read. */
export type TakeMemory = (sizeBytes: number) => Buffer;

export const newMemory: TakeMemory = (sizeBytes) => Buffer.allocUnsafeSlow(sizeBytes);

/**
 * The same memory again and again: a reader holds the piece that is used, the one that is asked for and
 * the one that is read ahead.
 */
export function lentMemory(): TakeMemory {
  const pieces: Buffer[] = [];
  let next = 0;
  return (sizeBytes) => {
    let piece = pieces[next];
    if (piece === undefined || piece.length < sizeBytes) {
      piece = Buffer.allocUnsafeSlow(sizeBytes);
      pieces[next] = piece;
    }
    next = (next + 1) % 3;
    return piece.subarray(0, sizeBytes);
  };
}

/** What is wrong with a blob, in words; the caller knows whose it is. */
export class BlobDamage extends Error {}

/**
 * The bytes of a blob from `start` to `end`. Each block that they touch is read whole and verified
 * before any of it is given. Throws BlobDamage, FILE_VERSION.
 */
export async function* readBlob(
  files: Files,
  path: string,
  sizeBytes: number,
  start: number,
  end: number,
  { signal, memory = newMemory }: { signal?: AbortSignal | undefined; memory?: TakeMemory } = {},
): Bytes {
  const file = await openBlob(files, path);
  let next: Promise<Buffer> | undefined;
  try {
    const table = await readTable(file, path, sizeBytes);
    const step = Math.max(1, Math.floor(readBytes / table.blockBytes)) * table.blockBytes;
    const first = Math.floor(start / table.blockBytes) * table.blockBytes;
    const readAt = (at: number): Promise<Buffer> => {
      // A short range needs only its own blocks.
      const wanted = Math.ceil(end / table.blockBytes) * table.blockBytes;
      return readBlocks(file, table, at, Math.min(at + step, wanted, sizeBytes), memory);
    };
    next = first < end ? readAt(first) : undefined;
    for (let at = first; at < end; at += step) {
      signal?.throwIfAborted();
      const bytes = await (next as Promise<Buffer>);
      // The next blocks are read while these are sent.
      next = at + step < end ? readAt(at + step) : undefined;
      next?.catch(() => undefined);
      yield bytes.subarray(Math.max(0, start - at), Math.min(bytes.length, end - at));
    }
  } finally {
    await next?.catch(() => undefined);
    await file.close();
  }
}

/** Throws BlobDamage where the blob is not what was written; `deep` reads all of it. */
export async function checkBlob(
  files: Files,
  path: string,
  sizeBytes: number,
  deep: boolean,
  signal?: AbortSignal,
): Promise<void> {
  for await (const _ of readBlob(files, path, sizeBytes, 0, deep ? sizeBytes : 0, {
    signal,
    memory: lentMemory(),
  }));
}

async function openBlob(files: Files, path: string): Promise<AsyncFile> {
  try {
    return await files.open(path, "read");
  } catch (error) {
    if (isErrno(error, "ENOENT")) throw new BlobDamage("its file is gone", { cause: error });
    throw error;
  }
}

interface Table {
  blockBytes: number;
  checksums: Buffer;
}

async function readTable(file: AsyncFile, path: string, sizeBytes: number): Promise<Table> {
  const fileBytes = await file.size();
  const buffer = Buffer.alloc(trailerBytes);
  if (fileBytes < trailerBytes) throw new BlobDamage("its file is cut off");
  await file.read(buffer, fileBytes - trailerBytes);
  const trailer = decodeTrailer(buffer);
  if (trailer === undefined) throw new BlobDamage("the end of its file is not what was written");
  if (trailer.version !== blobVersion) {
    throw failBase("FILE_VERSION", { path, version: trailer.version, supported: blobVersion });
  }
  const checksums = Buffer.alloc(blockCount(sizeBytes) * 4);
  if (trailer.sizeBytes !== sizeBytes || fileBytes !== sizeBytes + checksums.length + trailerBytes) {
    throw new BlobDamage("its file has another length");
  }
  await file.read(checksums, sizeBytes);
  if (crc32(checksums) !== trailer.tableCrc) throw new BlobDamage("its checksums are not what was written");
  return { blockBytes: trailer.blockBytes, checksums };
}

async function readBlocks(
  file: AsyncFile,
  table: Table,
  start: number,
  end: number,
  memory: TakeMemory,
): Promise<Buffer> {
  const buffer = memory(end - start);
  if ((await file.read(buffer, start)) < buffer.length) throw new BlobDamage("its file is cut off");
  for (let at = 0; at < buffer.length; at += table.blockBytes) {
    const block = (start + at) / table.blockBytes;
    const checksum = crc32(buffer.subarray(at, at + table.blockBytes));
    if (checksum !== table.checksums.readUInt32LE(block * 4)) {
      throw new BlobDamage(`the block at byte ${start + at} is not what was written`);
    }
  }
  return buffer;
}
