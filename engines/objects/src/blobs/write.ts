import { isErrno } from "@skep/base";
import { fail } from "../errors.ts";
import type { AsyncFile, Files } from "../files.ts";
import type { StorePaths } from "../paths.ts";
import type { Bytes } from "../types.ts";
import type { Digester } from "./digest.ts";
import { encodeFooter } from "./format.ts";

/** Pieces of memory under way at once: with fewer, each pause of one side is a pause of all. */
const slotCount = 4;

/** Bytes written between two flushes in the background. */
const flushBytes = 16 * 1024 * 1024;

export interface WrittenBlob {
  md5: string;
  sizeBytes: number;
}

/** Writes blobs; the folders it has made are remembered. */
export class BlobWriter {
  readonly #files: Files;
  readonly #paths: StorePaths;
  readonly #digester: Digester;
  readonly #folders = new Map<string, Promise<void>>();

  constructor(files: Files, paths: StorePaths, digester: Digester) {
    this.#files = files;
    this.#paths = paths;
    this.#digester = digester;
  }

  /**
   * The pieces as a new blob, on stable storage under its name when it returns. On failure nothing is
   * left. `declared` is checked: BODY_SIZE. Holds at most four pieces of memory and 4 bytes a block.
   */
  async write(name: string, pieces: Bytes, check: BodyCheck): Promise<WrittenBlob> {
    await this.#makeFolder(name);
    const path = this.#paths.blob(name);
    const file = await this.#files.open(path, "create");
    try {
      const written = await writePieces(file, pieces, this.#digester, check);
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

/** A piece of memory: filled on one side while it is written and digested on the other. */
interface Slot {
  memory: Uint8Array;
  busy: Promise<unknown>;
}

/** Neither is at it any more, also when one has failed. */
async function bothDone(one: Promise<void>, other: Promise<void>): Promise<void> {
  for (const result of await Promise.allSettled([one, other])) {
    if (result.status === "rejected") throw result.reason;
  }
}

async function writePieces(
  file: AsyncFile,
  pieces: Bytes,
  digester: Digester,
  check: BodyCheck,
): Promise<WrittenBlob> {
  const digest = digester.begin();
  const slots: Slot[] = [];
  const slotFor = (turn: number): Slot => {
    const slot = slots[turn] ?? { memory: digester.takeMemory(), busy: Promise.resolve() };
    slots[turn] = slot;
    return slot;
  };
  let turn = 0;
  let current = slotFor(turn);
  let filled = 0;
  let position = 0;
  let flushedTo = 0;
  let isFlushing = false;
  let flushing: Promise<void> = Promise.resolve();
  const send = async () => {
    const bytes = current.memory.subarray(0, filled);
    current.busy = bothDone(file.write([bytes], position), digest.update(bytes));
    // It is awaited when the slot is needed again; until then its failure is not unhandled.
    current.busy.catch(() => undefined);
    position += filled;
    filled = 0;
    turn = (turn + 1) % slotCount;
    current = slotFor(turn);
    await current.busy;
    if (isFlushing || position - flushedTo < flushBytes) return;
    // The disk works while the rest comes, so that the last flush is short.
    await flushing;
    flushedTo = position;
    isFlushing = true;
    flushing = file.datasync().finally(() => {
      isFlushing = false;
    });
    flushing.catch(() => undefined);
  };
  let isDigested = false;
  try {
    for await (const piece of pieces) {
      check.signal?.throwIfAborted();
      checkTooLong(check, position + filled + piece.length);
      for (let rest = piece; rest.length > 0; ) {
        const part = rest.subarray(0, current.memory.length - filled);
        current.memory.set(part, filled);
        filled += part.length;
        rest = rest.subarray(part.length);
        if (filled === current.memory.length) await send();
      }
    }
    check.signal?.throwIfAborted();
    if (filled > 0) await send();
    for (const slot of slots) await slot.busy;
    checkLength(check, position);
    const { md5, checksums } = await digest.finish();
    isDigested = true;
    await flushing;
    await file.write([encodeFooter(checksums, position)], position);
    await file.datasync();
    return { md5, sizeBytes: position };
  } finally {
    if (!isDigested) digest.abandon();
    // File and memory are let go after this: nothing may still be under way.
    await Promise.allSettled([...slots.map((slot) => slot.busy), flushing]);
    for (const { memory } of slots) digester.giveMemory(memory);
  }
}

function checkTooLong({ key, declared }: BodyCheck, received: number): void {
  if (declared !== undefined && received > declared) {
    throw fail("BODY_SIZE", { key, declared, received: `at least ${received}` });
  }
}

export function checkLength({ key, declared }: BodyCheck, received: number): void {
  if (declared !== undefined && received !== declared) throw fail("BODY_SIZE", { key, declared, received });
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
