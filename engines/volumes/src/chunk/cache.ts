import { join } from "node:path";
import { isErrno } from "@skep/base";
import type { AsyncFile, Files } from "@skep/objects/files";
import type { StoredChunk } from "./fetch.ts";
import { type ChunkName, parseSerialName, serialName } from "./names.ts";

/** After an error of the disk so much passes by before it is tried again. */
const restBytes = 256 * 1024 * 1024;

interface Entry {
  name: ChunkName;
  path: string;
  /** What was written of it, at most. */
  bytes: number;
}

/** A chunk's file, open: sparse, and holding what was written here; its reader verifies it. */
export interface CachedFile {
  readonly file: AsyncFile;
  readonly entry: Entry;
}

export interface ChunkCacheOptions {
  files: Files;
  directory: string;
  limitBytes: number;
  /** The chunk's file is gone: whoever has it open closes it. */
  evicted(name: ChunkName): void;
  log(message: string): void;
}

/**
 * A foreign store's chunks on this host's disk: `<volume>/<epoch>-<number>`, those used last. Nothing here is
 * needed: where the disk is full or fails, things are read from the store.
 */
export class ChunkCache {
  readonly #given: ChunkCacheOptions;
  /** Least lately used first. */
  readonly #entries = new Map<string, Entry>();
  readonly #unlinking = new Set<Promise<void>>();
  #found: Promise<void> | undefined;
  #bytes = 0;
  #restsFor = 0;
  #reserveBytes: number | undefined;

  constructor(options: ChunkCacheOptions) {
    this.#given = options;
  }

  /** What its files take, at most. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The chunk's file, made where it is missing; undefined while there is no caching. */
  async open({ name }: StoredChunk): Promise<CachedFile | undefined> {
    if (this.#restsFor > 0 || !/^[A-Za-z0-9-]+$/.test(name.volume)) return undefined;
    const { files, directory } = this.#given;
    try {
      this.#found ??= this.#find();
      await this.#found;
      const id = idOf(name);
      const entry = this.#entries.get(id) ?? { name, path: join(directory, id), bytes: 0 };
      const file = await this.#openFile(files, entry);
      // Another one may have opened it meanwhile; the entry is the same file's.
      const known = this.#entries.get(id) ?? entry;
      this.#entries.set(id, known);
      return { file, entry: known };
    } catch (error) {
      this.#rest(error);
      return undefined;
    }
  }

  async #openFile(files: Files, { name, path }: Entry): Promise<AsyncFile> {
    try {
      return await files.open(path, "write");
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
    }
    await files.mkdir(join(this.#given.directory, name.volume));
    return await files.open(path, "create");
  }

  /** It is used: others go first. */
  touch({ entry }: CachedFile): void {
    const id = idOf(entry.name);
    if (this.#entries.get(id) !== entry) return;
    this.#entries.delete(id);
    this.#entries.set(id, entry);
  }

  async write(cached: CachedFile, position: number, bytes: Uint8Array): Promise<void> {
    const { entry, file } = cached;
    if (this.#restsFor > 0) {
      this.#restsFor = Math.max(0, this.#restsFor - bytes.length);
      return;
    }
    try {
      this.touch(cached);
      if (!this.#makeRoom(entry, bytes.length) || !this.#has(entry)) return;
      entry.bytes += bytes.length;
      this.#bytes += bytes.length;
      await file.write([bytes], position);
    } catch (error) {
      this.forget(entry.name);
      this.#rest(error);
    }
  }

  #has(entry: Entry): boolean {
    return this.#entries.get(idOf(entry.name)) === entry;
  }

  /** False where the disk has none though all else went. */
  #makeRoom(wanting: Entry, bytes: number): boolean {
    const { files, directory, limitBytes } = this.#given;
    const others = [...this.#oldest(wanting, this.#bytes + bytes - limitBytes)];
    for (const entry of others) this.forget(entry.name);
    if (this.#bytes + bytes > limitBytes) return false;
    const free = files.freeBytesSync(directory);
    this.#reserveBytes ??= (files.totalBytesSync?.(directory) ?? free + this.#bytes) / 10;
    const missing = this.#reserveBytes + bytes - free;
    if (missing <= 0) return true;
    // What is unlinked is free a little later: this write is left out.
    for (const entry of [...this.#oldest(wanting, missing)]) this.forget(entry.name);
    return false;
  }

  *#oldest(except: Entry, bytes: number): Generator<Entry> {
    let freed = 0;
    for (const entry of this.#entries.values()) {
      if (freed >= bytes) return;
      if (entry === except) continue;
      freed += entry.bytes;
      yield entry;
    }
  }

  forget(name: ChunkName): void {
    const id = idOf(name);
    const entry = this.#entries.get(id);
    if (entry === undefined) return;
    this.#entries.delete(id);
    this.#bytes -= entry.bytes;
    this.#given.evicted(name);
    const unlinking = this.#given.files
      .unlink(entry.path)
      .catch((error: unknown) => {
        if (!isErrno(error, "ENOENT")) this.#rest(error);
      })
      .finally(() => this.#unlinking.delete(unlinking));
    this.#unlinking.add(unlinking);
  }

  #rest(error: unknown): void {
    if (this.#restsFor === 0) {
      this.#given.log(`chunks are not cached for a while: ${(error as Error).message}`);
    }
    this.#restsFor = restBytes;
  }

  /** What an earlier process has left; what is no chunk's file stays alone. */
  async #find(): Promise<void> {
    const { files, directory } = this.#given;
    await files.mkdir(directory);
    for (const volume of await files.readdir(directory)) {
      // A file is no folder: ENOTDIR.
      const found = await files.readdir(join(directory, volume)).catch(() => []);
      for (const file of found) {
        const serial = parseSerialName(file);
        if (serial === undefined) continue;
        const path = join(directory, volume, file);
        await using opened = await opening(files, path);
        const bytes = await opened.file.size();
        this.#entries.set(`${volume}/${file}`, { name: { volume, ...serial }, path, bytes });
        this.#bytes += bytes;
      }
    }
  }

  /** Waits for what is being removed. */
  async close(): Promise<void> {
    await Promise.all(this.#unlinking);
  }
}

async function opening(files: Files, path: string): Promise<AsyncDisposable & { file: AsyncFile }> {
  const file = await files.open(path, "read");
  return { file, [Symbol.asyncDispose]: () => file.close() };
}

function idOf({ volume, epoch, number }: ChunkName): string {
  return `${volume}/${serialName(epoch, number)}`;
}
