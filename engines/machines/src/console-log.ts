import {
  appendFileSync,
  constants,
  ftruncateSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { appendFile, type FileHandle, open, stat } from "node:fs/promises";
import { isErrno, readFileIfThere, writeFileAtomic } from "@skep/base";
import {
  type ConsoleIndex,
  formatBase,
  formatEntry,
  formatIndex,
  offsetSince,
  parseIndex,
} from "./console-index.ts";
import { followFrom, type GrowingLog, offsetOfTail, readFrom } from "./console-read.ts";
import type { LogOptions } from "./types.ts";

const defaultMaxBytes = 16 * 1024 * 1024;
const copyBytes = 1024 * 1024;

// QEMU, which runs as its own user, can put anything in the place of its log.
const readSafely = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const writeSafely = constants.O_RDWR | constants.O_NOFOLLOW | constants.O_NONBLOCK;

type ReadOptions = Pick<LogOptions, "sinceMs" | "tailLines" | "signal">;

/**
 * What a machine's serial console printed: `console.log`, to which QEMU itself appends, what was cut
 * from its beginning (`console.log.1`), and when it was printed (`console.log.index`). Both logs hold
 * at most `maxBytes`, with the exception of what QEMU wrote since the last call of `noteOutput`.
 */
export class ConsoleLog implements GrowingLog, AsyncDisposable {
  readonly path: string;
  readonly #maxBytes: number;
  readonly #now: () => number;
  /** Offset of the first byte of `path`. */
  #base = 0;
  #previousBytes = 0;
  #lastEntry = { offset: 0, timeMs: 0 };
  #loaded = false;
  #loading: Promise<void> | undefined;
  #work: Promise<unknown> = Promise.resolve();

  /** The log need not be there yet. */
  constructor(path: string, options: ConsoleLogOptions = {}) {
    this.path = path;
    this.#maxBytes = options.maxBytes ?? defaultMaxBytes;
    this.#now = options.now ?? Date.now;
  }

  /**
   * Takes in what is on disk; a damaged index is written anew with what is sound of it. Whoever reads
   * or notes does it as well, when it was not done.
   */
  load(): Promise<void> {
    this.#loading ??= this.#load().catch((error) => {
      this.#loading = undefined;
      throw error;
    });
    return this.#loading;
  }

  async #load(): Promise<void> {
    const { path } = this;
    const [size, previous] = await Promise.all([sizeOf(path), sizeOf(`${path}.1`)]);
    const text = await readFileIfThere(`${path}.index`).catch(() => "");
    const parsed = parseIndex(text ?? "");
    const index: ConsoleIndex = parsed?.index ?? { base: previous.bytes, entries: [] };
    const end = index.base + size.bytes;
    const sound = index.entries.filter((entry) => entry.offset <= end);
    let rewrite = parsed?.intact !== true || sound.length < index.entries.length;
    const last = sound.at(-1) ?? { offset: Math.max(0, index.base - previous.bytes), timeMs: 0 };
    if (end > last.offset && size.changedMs > last.timeMs + 1000) {
      // Printed while nobody looked: some time between the last entry and the file's last change.
      sound.push({ offset: last.offset, timeMs: size.changedMs });
      rewrite = true;
    }
    this.#base = index.base;
    this.#previousBytes = Math.min(previous.bytes, index.base);
    this.#lastEntry = sound.at(-1) ?? this.#lastEntry;
    this.#loaded = true;
    if (rewrite && end > 0) {
      await this.#bestEffort(() =>
        writeFileAtomic(`${path}.index`, formatIndex({ base: index.base, entries: sound })),
      );
    }
    await this.#limitSize();
  }

  /** To be called with each piece that arrived from the console: indexes it, and keeps to the size. */
  noteOutput(byteCount: number): void {
    if (!this.#loaded) {
      void this.#bestEffort(() => this.load());
      return;
    }
    const timeMs = this.#now();
    if (timeMs >= this.#lastEntry.timeMs && timeMs - this.#lastEntry.timeMs < 1000) return;
    let size: number;
    try {
      size = statSync(this.path).size;
    } catch {
      return; // removed by hand; QEMU still writes to it, but nobody can read it
    }
    // QEMU logs a piece just after it sent it, so it may or may not be in the file already.
    const offset = Math.max(this.#lastEntry.offset, this.#base + Math.max(0, size - byteCount));
    this.#lastEntry = { offset, timeMs };
    void this.#bestEffort(() =>
      stat(`${this.path}.index`).then(
        () => appendFile(`${this.path}.index`, formatEntry({ offset, timeMs })),
        () =>
          writeFileAtomic(
            `${this.path}.index`,
            formatIndex({ base: this.#base, entries: [{ offset, timeMs }] }),
          ),
      ),
    );
    if (size > this.#maxBytes) void this.#limitSize();
  }

  /** The newest `maxBytes` bytes. */
  async tail(maxBytes: number): Promise<Buffer> {
    const { start, end } = await this.extent();
    const pieces: Buffer[] = [];
    for await (const piece of readFrom(this, Math.max(start, end - maxBytes))) pieces.push(piece);
    return Buffer.concat(pieces);
  }

  async *read(options: ReadOptions = {}): AsyncGenerator<Buffer> {
    yield* readFrom(this, await this.#offsetOf(options));
  }

  /** Goes on until the signal. */
  async *follow(options: ReadOptions = {}): AsyncGenerator<Buffer> {
    yield* followFrom(this, await this.#offsetOf(options), options.signal);
  }

  async extent(): Promise<{ start: number; end: number }> {
    await this.load();
    while (true) {
      const base = this.#base;
      const { bytes } = await sizeOf(this.path);
      if (base === this.#base) return { start: base - this.#previousBytes, end: base + bytes };
    }
  }

  async readAt(offset: number, length: number): Promise<Buffer> {
    while (true) {
      const base = this.#base;
      const start = base - this.#previousBytes;
      if (offset < start) return Buffer.alloc(0);
      const bytes =
        offset < base
          ? await readPiece(`${this.path}.1`, offset - start, Math.min(length, base - offset))
          : await readPiece(this.path, offset - base, length);
      if (base === this.#base) return bytes;
    }
  }

  /** Waits for what is being written. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#work;
  }

  async #offsetOf({ sinceMs, tailLines }: ReadOptions): Promise<number> {
    const { start, end } = await this.extent();
    let offset = start;
    if (sinceMs !== undefined) {
      await this.#work;
      const text = await readFileIfThere(`${this.path}.index`).catch(() => undefined);
      const index = parseIndex(text ?? "")?.index;
      if (index !== undefined) offset = Math.max(offset, Math.min(end, offsetSince(index, sinceMs)));
    }
    return tailLines === undefined ? offset : Math.max(offset, await offsetOfTail(this, tailLines));
  }

  /** The index and the limit are comfort: neither a full disk nor a missing directory may hurt the console. */
  #bestEffort(work: () => unknown): Promise<void> {
    const done = this.#work.then(work).then(
      () => {},
      () => {},
    );
    this.#work = done;
    return done;
  }

  #limitSize(): Promise<void> {
    return this.#bestEffort(async () => {
      const { bytes } = await sizeOf(this.path);
      if (bytes <= this.#maxBytes) return;
      const temporary = `${this.path}.1.tmp`;
      rmSync(temporary, { force: true });
      const source = await open(this.path, writeSafely);
      try {
        const target = await open(temporary, "wx+", 0o600);
        try {
          const from = Math.max(0, bytes - this.#maxBytes);
          await copy(source, target, from, bytes);
          this.#cut(temporary, source.fd, target.fd, from, bytes);
        } finally {
          await target.close();
        }
      } finally {
        await source.close();
        rmSync(temporary, { force: true });
      }
      await this.#pruneIndex();
    });
  }

  /**
   * Moves the beginning of the log into `console.log.1`. Without a pause from the last look at the
   * file to its truncation, so that at most what QEMU writes between two system calls is lost; and in
   * an order in which a crash repeats output rather than losing it.
   */
  #cut(temporary: string, source: number, target: number, from: number, copiedTo: number): void {
    const block = Buffer.alloc(copyBytes);
    const catchUp = (position: number): number => {
      let at = position;
      for (let read = 0; ; at += read) {
        read = readSync(source, block, 0, block.length, at);
        if (read === 0) return at;
        writeSync(target, block, 0, read, at - from);
      }
    };
    let at = catchUp(copiedTo);
    renameSync(temporary, `${this.path}.1`);
    at = catchUp(at);
    appendFileSync(`${this.path}.index`, formatBase(this.#base + at));
    at = catchUp(at);
    ftruncateSync(source, 0);
    this.#base += at;
    this.#previousBytes = at - from;
  }

  async #pruneIndex(): Promise<void> {
    const parsed = parseIndex((await readFileIfThere(`${this.path}.index`)) ?? "");
    const start = this.#base - this.#previousBytes;
    const entries = parsed?.index.entries.filter((entry) => entry.offset >= start) ?? [];
    await writeFileAtomic(`${this.path}.index`, formatIndex({ base: this.#base, entries }));
  }
}

export interface ConsoleLogOptions {
  /** Size above which the log is cut; default 16 MiB. */
  maxBytes?: number;
  now?: () => number;
}

/** A log without times, such as QEMU's own. `sinceMs` has no effect on it. */
export class PlainLog implements GrowingLog {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async extent(): Promise<{ start: number; end: number }> {
    return { start: 0, end: (await sizeOf(this.path)).bytes };
  }

  readAt(offset: number, length: number): Promise<Buffer> {
    return readPiece(this.path, offset, length);
  }

  async *read(options: ReadOptions = {}): AsyncGenerator<Buffer> {
    yield* readFrom(this, await this.#offsetOf(options));
  }

  async *follow(options: ReadOptions = {}): AsyncGenerator<Buffer> {
    yield* followFrom(this, await this.#offsetOf(options), options.signal);
  }

  async #offsetOf({ tailLines }: ReadOptions): Promise<number> {
    return tailLines === undefined ? 0 : offsetOfTail(this, tailLines);
  }
}

async function sizeOf(path: string): Promise<{ bytes: number; changedMs: number }> {
  try {
    const status = await stat(path);
    return { bytes: status.isFile() ? status.size : 0, changedMs: Math.floor(status.mtimeMs) };
  } catch (error) {
    if (isErrno(error, "ENOENT")) return { bytes: 0, changedMs: 0 };
    throw error;
  }
}

async function readPiece(path: string, position: number, length: number): Promise<Buffer> {
  let handle: FileHandle;
  try {
    handle = await open(path, readSafely);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return Buffer.alloc(0);
    throw error;
  }
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(length), 0, length, position);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

async function copy(source: FileHandle, target: FileHandle, from: number, to: number): Promise<void> {
  const block = Buffer.alloc(copyBytes);
  for (let at = from; at < to; ) {
    const { bytesRead } = await source.read(block, 0, Math.min(block.length, to - at), at);
    if (bytesRead === 0) return;
    await target.write(block, 0, bytesRead, at - from);
    at += bytesRead;
  }
}
