import type { KeyObject } from "node:crypto";
import { zstdDecompressSync } from "node:zlib";
import { isErrno } from "@skep/base";
import type { ObjectStore } from "@skep/objects";
import type { Files } from "@skep/objects/files";
import type { VolumeKey } from "../keys.ts";
import type { Pace } from "../pace.ts";
import { ChunkCache } from "./cache.ts";
import { ChunkFetch } from "./fetch.ts";
import { ChunkDamaged, type ChunkHeader, decodeHeader } from "./format.ts";
import { blocksIn, damagedBlocks, damageIn, type FrameRange, rangeOf } from "./frames.ts";
import { MemoryLines } from "./memory-lines.ts";
import { type ChunkName, chunkObjectKey } from "./names.ts";
import { Shared } from "./shared.ts";
import { type ChunkSource, type Lend, LocalSource, RemoteSource } from "./source.ts";

/** A chunk as the map knows it. */
export interface ChunkRef {
  name: ChunkName;
  sizeBytes: number;
  headerBytes: number;
  blocks: number;
  key: VolumeKey | null;
}

export interface ChunkReaderOptions {
  store: ObjectStore;
  /** Without it nothing is read from files. */
  files?: Files;
  /** Of chunks of a store elsewhere; null: none. Nobody else uses it. */
  cacheDirectory?: string | null;
  /** 10 GiB otherwise, and never the last tenth of the disk. */
  cacheBytes?: number;
  /** What is kept in memory of chunks, at most; 32 MiB otherwise. */
  memoryBytes?: number;
  /** Headers and open files, at most; 512 otherwise. */
  openChunks?: number;
  /** Without it files are read through the thread pool only. */
  pace?: Pace;
  decompress?(bytes: Uint8Array, maxBytes: number): Uint8Array;
  log?(message: string): void;
}

export interface ChunkReadHints {
  signal?: AbortSignal;
  /** What comes next in the chunk will be read as well. */
  sequential?: boolean;
  /** Memory for the blocks of a plain chunk. */
  lend?: Lend | undefined;
}

interface Opened {
  header: ChunkHeader;
  source: ChunkSource;
  secret: KeyObject | undefined;
  /** Reads under way: it is closed after them. */
  users: number;
  isGone: boolean;
}

/** Smaller chunks are fetched whole and kept in memory. */
const smallBytes = 256 * 1024;

/** Reads chunks of one store, for all volumes, verified. */
export class ChunkReader {
  readonly #store: ObjectStore;
  readonly #options: ChunkReaderOptions;
  readonly #fetch: ChunkFetch;
  readonly #memory: MemoryLines;
  readonly #cache: ChunkCache | undefined;
  readonly #decompress: (bytes: Uint8Array, maxBytes: number) => Uint8Array;
  /** Least lately used first. */
  readonly #open = new Map<string, Opened>();
  readonly #opening = new Map<string, Shared<Opened>>();
  readonly #closing = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: ChunkReaderOptions) {
    const { store, files, cacheDirectory: directory, cacheBytes: limitBytes = 10 * 1024 ** 3 } = options;
    this.#store = store;
    this.#options = options;
    this.#fetch = new ChunkFetch(store);
    this.#memory = new MemoryLines(options.memoryBytes ?? 32 * 1024 * 1024);
    const log = options.log ?? (() => undefined);
    const evicted = (name: ChunkName) => this.#drop(chunkObjectKey(name));
    if (files !== undefined && directory !== undefined && directory !== null) {
      this.#cache = new ChunkCache({ files, directory, limitBytes, evicted, log });
    }
    this.#decompress =
      options.decompress ?? ((bytes, maxOutputLength) => zstdDecompressSync(bytes, { maxOutputLength }));
  }

  /** Since it was made. */
  get bytesFromStore(): number {
    return this.#fetch.bytes;
  }

  /**
   * Pieces that are together the blocks; without a promise where they are at hand. ChunkDamaged, the store's
   * OBJECT_NOT_FOUND where the chunk is gone, the signal's reason.
   */
  read(
    ref: ChunkRef,
    ordinal: number,
    count: number,
    hints: ChunkReadHints = {},
  ): Uint8Array[] | Promise<Uint8Array[]> {
    if (count === 0) return [];
    const key = chunkObjectKey(ref.name);
    const opened = this.#open.get(key);
    if (opened === undefined) return this.#openAndRead(ref, ordinal, count, hints);
    this.#open.delete(key);
    this.#open.set(key, opened);
    return this.#readOpened(opened, ordinal, count, hints);
  }

  async #openAndRead(ref: ChunkRef, ordinal: number, count: number, hints: ChunkReadHints) {
    for (;;) {
      if (this.#isClosed) throw new Error("the chunks' reader is closed");
      const opened = await this.#ensureOpen(ref, hints);
      // With many opened at once it may have had to go before it was used.
      if (!opened.isGone) return this.#readOpened(opened, ordinal, count, hints);
    }
  }

  #readOpened(
    opened: Opened,
    ordinal: number,
    count: number,
    hints: ChunkReadHints,
  ): Uint8Array[] | Promise<Uint8Array[]> {
    const { header, source } = opened;
    const range = rangeOf(header, ordinal, count);
    // What is stored of others is not what is answered.
    const lend = header.frameBlocks === 1 && !header.encrypted ? hints.lend : undefined;
    const near = source.near(range.start, range.end, lend);
    if (!(near instanceof Promise)) {
      const missing = missingOf(header, range, near);
      if (missing === undefined) return blocksIn(header, range, near as Uint8Array, this.#with(opened));
      return this.#whileUsed(opened, this.#readFar(opened, range, near, missing, hints));
    }
    const whole = near.then((bytes) => {
      const missing = missingOf(header, range, bytes);
      if (missing === undefined) return blocksIn(header, range, bytes as Uint8Array, this.#with(opened));
      return this.#readFar(opened, range, bytes, missing, hints);
    });
    return this.#whileUsed(opened, whole);
  }

  /** Replaces what is missing, and tells what is damaged in the store too. */
  async #readFar(
    opened: Opened,
    range: FrameRange,
    near: Uint8Array | undefined,
    missing: { start: number; end: number },
    hints: ChunkReadHints,
  ): Promise<Uint8Array[]> {
    hints.signal?.throwIfAborted();
    const { header, source } = opened;
    if (source.far === undefined) throw damaged(header, missing, "their bytes are not what was written");
    let bytes: Uint8Array;
    try {
      bytes = await source.far(missing.start, missing.end, hints);
    } catch (error) {
      if (!(error instanceof ChunkDamaged)) throw error;
      throw damaged(header, missing, error.why, error);
    }
    if (near !== undefined && bytes.length < near.length) {
      near.set(bytes, missing.start - range.start);
      bytes = near;
    }
    const bad = damageIn(header, range, bytes);
    if (bad !== undefined) throw damaged(header, bad, "their bytes in the store are not what was written");
    return blocksIn(header, range, bytes, this.#with(opened));
  }

  #with({ secret }: Opened) {
    return { secret, decompress: this.#decompress };
  }

  async #whileUsed<T>(opened: Opened, work: Promise<T>): Promise<T> {
    opened.users += 1;
    try {
      return await work;
    } finally {
      opened.users -= 1;
      if (opened.isGone) this.#closeUnused(opened);
    }
  }

  async #ensureOpen(ref: ChunkRef, hints: ChunkReadHints): Promise<Opened> {
    const key = chunkObjectKey(ref.name);
    let opening = this.#opening.get(key);
    if (opening === undefined || opening.isAbandoned) {
      const made = new Shared((signal) => this.#openChunk(ref, { ...hints, signal }));
      opening = made;
      this.#opening.set(key, made);
      const done = () => {
        if (this.#opening.get(key) === made) this.#opening.delete(key);
      };
      made.settled.then((opened) => {
        done();
        this.#keep(key, opened);
      }, done);
    }
    return opening.wait(hints.signal);
  }

  #keep(key: string, opened: Opened): void {
    this.#drop(key);
    this.#open.set(key, opened);
    for (const oldest of this.#open.keys()) {
      if (!this.#isClosed && this.#open.size <= (this.#options.openChunks ?? 512)) break;
      this.#drop(oldest);
    }
  }

  async #openChunk(ref: ChunkRef, hints: ChunkReadHints): Promise<Opened> {
    const source = (await this.#local(ref)) ?? (await this.#remote(ref));
    try {
      const header = await readHeader(source, ref, hints);
      return { header, source, secret: ref.key?.chunkKey(ref.name), users: 0, isGone: false };
    } catch (error) {
      await source.close();
      if (source instanceof RemoteSource) this.#cache?.forget(ref.name);
      throw error;
    }
  }

  /** The store's own file; what is open stays readable though it is deleted. */
  async #local({ name }: ChunkRef): Promise<LocalSource | undefined> {
    const { files, pace } = this.#options;
    if (files === undefined) return undefined;
    const found = await this.#store.file?.(chunkObjectKey(name));
    if (found === undefined) return undefined;
    try {
      return new LocalSource(await files.open(found.path, "read"), found.offset, pace);
    } catch (error) {
      if (isErrno(error, "ENOENT")) throw new ChunkDamaged("its file is gone", { cause: error });
      throw error;
    } finally {
      found.release();
    }
  }

  async #remote(ref: ChunkRef): Promise<RemoteSource> {
    const cache = ref.sizeBytes < smallBytes ? undefined : this.#cache;
    const cached = await cache?.open(ref);
    const disk =
      cache === undefined || cached === undefined ? undefined : { cache, cached, pace: this.#options.pace };
    return new RemoteSource(ref, { fetch: this.#fetch, memory: this.#memory, disk });
  }

  /** A chunk that was just put. What can be kept of it without a second copy is; it never fails. */
  async written(ref: ChunkRef, body: Uint8Array): Promise<void> {
    const isSmall = ref.sizeBytes < smallBytes;
    if (isSmall) return this.#memory.write(ref, 0, body);
    if (this.#cache === undefined || this.#store.file !== undefined) return;
    const source = await this.#remote(ref);
    await source.keep(0, body);
    await source.close();
  }

  /** The chunk is deleted. */
  forget(name: ChunkName): void {
    this.#drop(chunkObjectKey(name));
    this.#memory.forget({ name, sizeBytes: smallBytes });
    this.#cache?.forget(name);
  }

  #drop(key: string): void {
    const opened = this.#open.get(key);
    if (opened === undefined) return;
    this.#open.delete(key);
    opened.isGone = true;
    this.#closeUnused(opened);
  }

  #closeUnused(opened: Opened): void {
    if (opened.users > 0) return;
    const closing = opened.source.close().finally(() => this.#closing.delete(closing));
    closing.catch(() => undefined);
    this.#closing.add(closing);
  }

  /** Reads every frame from the store: which blocks are damaged, and why. */
  async verify(
    ref: ChunkRef,
    options: { signal?: AbortSignal } = {},
  ): Promise<{ ordinal: number; count: number; why: string }[]> {
    try {
      const local = await this.#local(ref);
      const bytes =
        local === undefined
          ? await this.#fetch.get(ref, 0, ref.sizeBytes, options.signal)
          : await wholeOf(local, ref);
      const secret = ref.key?.chunkKey(ref.name);
      return damagedBlocks(decodeHeader(bytes, ref), bytes, { secret, decompress: this.#decompress });
    } catch (error) {
      if (!(error instanceof ChunkDamaged)) throw error;
      return [{ ordinal: 0, count: ref.blocks, why: error.why }];
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const key of [...this.#open.keys()]) this.#drop(key);
    await Promise.allSettled(this.#closing);
    await this.#cache?.close();
  }
}

function missingOf(header: ChunkHeader, range: FrameRange, bytes: Uint8Array | undefined) {
  return bytes === undefined ? range : damageIn(header, range, bytes);
}

async function wholeOf(local: LocalSource, ref: ChunkRef): Promise<Uint8Array> {
  try {
    const bytes = await local.near(0, ref.sizeBytes);
    if (bytes === undefined) throw new ChunkDamaged("its file is cut off");
    return bytes;
  } finally {
    await local.close();
  }
}

async function readHeader(source: ChunkSource, ref: ChunkRef, hints: ChunkReadHints): Promise<ChunkHeader> {
  const end = Math.min(ref.headerBytes, ref.sizeBytes);
  // A copy: what is read may be a part of far more.
  const decode = (bytes: Uint8Array) => decodeHeader(Buffer.from(bytes), ref);
  const near = await source.near(0, end);
  try {
    if (near !== undefined) return decode(near);
    if (source.far === undefined) throw new ChunkDamaged("its header is cut off");
  } catch (error) {
    if (source.far === undefined || !(error instanceof ChunkDamaged)) throw error;
  }
  const upTo = ref.sizeBytes < smallBytes ? ref.sizeBytes : end;
  return decode((await source.far(0, upTo, hints)).subarray(0, end));
}

/** Names the blocks whose frames lie in these bytes. */
function damaged(
  header: ChunkHeader,
  { start, end }: { start: number; end: number },
  why: string,
  cause?: unknown,
): ChunkDamaged {
  let first: number | undefined;
  let last = 0;
  for (let ordinal = 0; ordinal < header.blocks; ) {
    const frame = header.frameOf(ordinal);
    ordinal += frame.blocks;
    if (frame.position < start || frame.position >= end) continue;
    first ??= frame.ordinal;
    last = ordinal - 1;
  }
  return new ChunkDamaged(`blocks ${first} to ${last}: ${why}`, { cause });
}
