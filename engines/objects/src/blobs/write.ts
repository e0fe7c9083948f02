import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { isErrno } from "@skep/base";
import { fail } from "../errors.ts";
import type { AsyncFile, Files } from "../files.ts";
import type { StorePaths } from "../paths.ts";
import type { Bytes } from "../types.ts";
import { blockBytes, encodeFooter } from "./format.ts";

/** Bytes gathered before they are written, and written between two flushes in the background. */
const writeBytes = 1024 * 1024;
const flushBytes = 16 * 1024 * 1024;

export interface WrittenBlob {
  md5: string;
  sizeBytes: number;
}

/** Writes blobs; the folders it has made are remembered. */
export class BlobWriter {
  readonly #files: Files;
  readonly #paths: StorePaths;
  readonly #folders = new Map<string, Promise<void>>();

  constructor(files: Files, paths: StorePaths) {
    this.#files = files;
    this.#paths = paths;
  }

  /**
   * The pieces as a new blob, on stable storage under its name when it returns. On failure nothing is
   * left. `declared` is checked: BODY_SIZE. Holds at most two times 1 MiB and 4 bytes a block.
   */
  async write(name: string, pieces: Bytes, check: BodyCheck): Promise<WrittenBlob> {
    await this.#makeFolder(name);
    const path = this.#paths.blob(name);
    const file = await this.#files.open(path, "create");
    try {
      const written = await writePieces(file, pieces, check);
      await file.close();
      await this.#files.syncDirectory(this.#paths.blobFolder(name));
      return written;
    } catch (error) {
      await file.close().catch(() => undefined);
      await this.remove(name);
      throw error;
    }
  }

  /** No error where it is gone already. */
  async remove(name: string): Promise<void> {
    try {
      await this.#files.unlink(this.#paths.blob(name));
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
  }

  async #makeFolder(name: string): Promise<void> {
    const folder = this.#paths.blobFolder(name);
    let made = this.#folders.get(folder);
    if (made === undefined) {
      made = (async () => {
        await this.#files.mkdir(folder);
        await this.#files.syncDirectory(this.#paths.blobs);
      })();
      this.#folders.set(folder, made);
      made.catch(() => this.#folders.delete(folder));
    }
    await made;
  }
}

/** What a body must be while it comes. */
export interface BodyCheck {
  key: string;
  declared?: number | undefined;
  signal?: AbortSignal | undefined;
}

async function writePieces(file: AsyncFile, pieces: Bytes, check: BodyCheck): Promise<WrittenBlob> {
  const hash = createHash("md5");
  const blocks = new BlockChecksums();
  let gathered: Uint8Array[] = [];
  let gatheredBytes = 0;
  let position = 0;
  let flushedTo = 0;
  let writing: Promise<void> = Promise.resolve();
  let flushing: Promise<void> = Promise.resolve();
  const flush = async () => {
    await writing;
    const buffers = gathered;
    if (buffers.length === 0) return;
    const at = position;
    position += gatheredBytes;
    gathered = [];
    gatheredBytes = 0;
    writing = file.write(buffers, at);
    // It is awaited with the next piece; until then its failure is not unhandled.
    writing.catch(() => undefined);
    if (position - flushedTo >= flushBytes) {
      // The disk works while the rest comes, so that the last flush is short.
      await writing;
      await flushing;
      flushedTo = position;
      flushing = file.datasync();
      flushing.catch(() => undefined);
    }
  };
  try {
    for await (const piece of pieces) {
      check.signal?.throwIfAborted();
      hash.update(piece);
      blocks.update(piece);
      gathered.push(piece);
      gatheredBytes += piece.length;
      checkTooLong(check, position + gatheredBytes);
      if (gatheredBytes >= writeBytes) await flush();
    }
    check.signal?.throwIfAborted();
    await flush();
    await writing;
    checkLength(check, position);
    await flushing;
    await file.write([encodeFooter(blocks.finish(), position)], position);
    await file.datasync();
    return { md5: hash.digest("hex"), sizeBytes: position };
  } finally {
    // The file is closed after this: nothing may still be under way.
    await Promise.allSettled([writing, flushing]);
  }
}

export function checkTooLong({ key, declared }: BodyCheck, received: number): void {
  if (declared !== undefined && received > declared) {
    throw fail("BODY_SIZE", { key, declared, received: `at least ${received}` });
  }
}

export function checkLength({ key, declared }: BodyCheck, received: number): void {
  if (declared !== undefined && received !== declared) throw fail("BODY_SIZE", { key, declared, received });
}

/** A CRC-32 for each block of what passes. */
class BlockChecksums {
  readonly #finished: number[] = [];
  #current = 0;
  #length = 0;

  update(piece: Uint8Array): void {
    let rest = piece;
    while (rest.length > 0) {
      const part = rest.subarray(0, blockBytes - this.#length);
      this.#current = crc32(part, this.#current);
      this.#length += part.length;
      rest = rest.subarray(part.length);
      if (this.#length === blockBytes) this.#next();
    }
  }

  #next(): void {
    this.#finished.push(this.#current);
    this.#current = 0;
    this.#length = 0;
  }

  finish(): number[] {
    if (this.#length > 0) this.#next();
    return this.#finished;
  }
}

/** A body of at most `limit` bytes in one piece; a larger one as it came. */
export async function gather(body: Bytes, limit: number, check: BodyCheck): Promise<Uint8Array | Bytes> {
  const iterator = body[Symbol.asyncIterator]();
  const pieces: Uint8Array[] = [];
  let received = 0;
  try {
    for (;;) {
      const next = await iterator.next();
      check.signal?.throwIfAborted();
      if (next.done === true) {
        checkLength(check, received);
        return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
      }
      pieces.push(next.value);
      received += next.value.length;
      checkTooLong(check, received);
      if (received > limit) break;
    }
  } catch (error) {
    await iterator.return?.();
    throw error;
  }
  return continued(pieces, iterator);
}

async function* continued(pieces: Uint8Array[], iterator: AsyncIterator<Uint8Array>): Bytes {
  try {
    yield* pieces;
    for (;;) {
      const next = await iterator.next();
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    await iterator.return?.();
  }
}
