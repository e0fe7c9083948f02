import type { AsyncFile } from "@skep/objects/files";
import type { Pace } from "../pace.ts";
import type { CachedFile, ChunkCache } from "./cache.ts";
import type { ChunkFetch, StoredChunk } from "./fetch.ts";
import { ChunkDamaged } from "./format.ts";
import { lineBytes, type MemoryLines } from "./memory-lines.ts";
import { Shared } from "./shared.ts";

export interface SourceHints {
  signal?: AbortSignal;
  sequential?: boolean;
}

/** Memory of so many bytes, where the reader has some. */
export type Lend = (lengthBytes: number) => Buffer;

/** Where a chunk's bytes come from; who reads them verifies them. */
export interface ChunkSource {
  /** What is at hand: undefined, or other bytes than the chunk's, where it is not. */
  near(start: number, end: number, lend?: Lend): Uint8Array | undefined | Promise<Uint8Array | undefined>;
  /** From the store, where `near` is a copy of it. */
  far?(start: number, end: number, hints: SourceHints): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** In place while the disk is quick. A short read gives undefined. */
function readFile(
  file: AsyncFile,
  pace: Pace | undefined,
  position: number,
  into: Buffer | number,
): Uint8Array | undefined | Promise<Uint8Array | undefined> {
  const bytes = typeof into === "number" ? Buffer.allocUnsafeSlow(into) : into;
  if (pace?.quick() === true) {
    return pace.inPlace(() => file.readSync(bytes, position)) === bytes.length ? bytes : undefined;
  }
  return file.read(bytes, position).then((read) => (read === bytes.length ? bytes : undefined));
}

/** The embedded store's own file. */
export class LocalSource implements ChunkSource {
  readonly #file: AsyncFile;
  readonly #offset: number;
  readonly #pace: Pace | undefined;

  constructor(file: AsyncFile, offset: number, pace: Pace | undefined) {
    this.#file = file;
    this.#offset = offset;
    this.#pace = pace;
  }

  near(start: number, end: number, lend?: Lend): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    return readFile(this.#file, this.#pace, this.#offset + start, lend?.(end - start) ?? end - start);
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

/** A chunk of a store elsewhere, of which lines are kept here: in a file, or in memory. */
export class RemoteSource implements ChunkSource {
  readonly #chunk: StoredChunk;
  readonly #fetch: ChunkFetch;
  readonly #memory: MemoryLines;
  readonly #disk: { cache: ChunkCache; cached: CachedFile; pace: Pace | undefined } | undefined;
  /** By the number of the line: what is on its way. */
  readonly #coming = new Map<number, { get: Shared<Uint8Array>; start: number }>();
  readonly #writing = new Set<Promise<void>>();

  constructor(
    chunk: StoredChunk,
    given: {
      fetch: ChunkFetch;
      memory: MemoryLines;
      disk: { cache: ChunkCache; cached: CachedFile; pace: Pace | undefined } | undefined;
    },
  ) {
    this.#chunk = chunk;
    this.#fetch = given.fetch;
    this.#memory = given.memory;
    this.#disk = given.disk;
  }

  near(start: number, end: number, lend?: Lend): Uint8Array | undefined | Promise<Uint8Array | undefined> {
    if (this.#disk === undefined) return this.#memory.read(this.#chunk, start, end);
    const { cache, cached, pace } = this.#disk;
    cache.touch(cached);
    // What the cache's disk cannot give the store can.
    try {
      const bytes = readFile(cached.file, pace, start, lend?.(end - start) ?? end - start);
      return bytes instanceof Promise ? bytes.catch(() => undefined) : bytes;
    } catch {
      return undefined;
    }
  }

  /** Whole lines; those on their way already are waited for. */
  async far(start: number, end: number, { signal, sequential }: SourceHints): Promise<Uint8Array> {
    if (end > this.#chunk.sizeBytes) throw new ChunkDamaged("it is cut off");
    const first = Math.floor(start / lineBytes);
    const last = Math.floor((end - 1) / lineBytes);
    const lines = Array.from({ length: last - first + 1 }, (_, i) => {
      const line = first + i;
      if (this.#comingLine(line) === undefined) this.#begin(line, last, sequential === true);
      return this.#comingLine(line) as { get: Shared<Uint8Array>; start: number };
    });
    const gets = [...new Set(lines)];
    const bodies = await Promise.all(gets.map(({ get }) => get.wait(signal)));
    const pieces = gets.map((get, i) => {
      const body = bodies[i] as Uint8Array;
      // Of each body what lies in the range, up to where the next one begins.
      const from = Math.max(start, (first + lines.indexOf(get)) * lineBytes);
      const to = Math.min(end, (first + lines.lastIndexOf(get) + 1) * lineBytes);
      return body.subarray(from - get.start, to - get.start);
    });
    return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
  }

  #comingLine(line: number): { get: Shared<Uint8Array>; start: number } | undefined {
    const coming = this.#coming.get(line);
    return coming?.get.isAbandoned === true ? undefined : coming;
  }

  /** One GET of that line and those behind it, up to one that comes already. */
  #begin(line: number, last: number, isSequential: boolean): void {
    const { sizeBytes } = this.#chunk;
    const limit = isSequential ? Math.ceil(sizeBytes / lineBytes) : last + 1;
    let behind = line + 1;
    while (behind < limit && this.#comingLine(behind) === undefined) behind += 1;
    const start = line * lineBytes;
    const end = Math.min(sizeBytes, behind * lineBytes);
    const get = new Shared((signal) => this.#fetch.get(this.#chunk, start, end, signal));
    const coming = { get, start };
    for (let at = line; at < behind; at += 1) this.#coming.set(at, coming);
    const done = () => {
      for (let at = line; at < behind; at += 1) {
        if (this.#coming.get(at) === coming) this.#coming.delete(at);
      }
    };
    // Until its bytes are kept, others wait for the same GET.
    const kept = get.settled.then((bytes) => this.keep(start, bytes)).then(done, done);
    this.#writing.add(kept);
    void kept.then(() => this.#writing.delete(kept));
  }

  /** Keeps bytes from the beginning of a line on. */
  keep(start: number, bytes: Uint8Array): Promise<void> | void {
    if (this.#disk === undefined) return this.#memory.write(this.#chunk, start, bytes);
    return this.#disk.cache.write(this.#disk.cached, start, bytes);
  }

  async close(): Promise<void> {
    await Promise.all(this.#writing);
    await this.#disk?.cached.file.close();
  }
}
