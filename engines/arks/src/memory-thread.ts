/** A thread that packs, unpacks or copies guest memory; memory-threads.ts starts it and says what to do. */
import { hash } from "node:crypto";
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { constants, zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { bytesOfChunk, pageBytes } from "./index-codec.ts";
import type { Answer, Job, Order, PackedBatch, Piece, ThreadData } from "./memory-threads.ts";
import { chunkBytes, type MemoryRow } from "./types.ts";

/** So that what is compressed, or decompressed, fits one buffer, and is not put together from many. */
const slack = 65_536;
const compression = {
  params: { [constants.ZSTD_c_compressionLevel]: 1 },
  chunkSize: chunkBytes + slack,
};
/** No frame may ask for a window beyond its chunk. */
const largestWindowLog = 20;

interface Open {
  from: number;
  into: number | null;
  memoryBytes: number;
}

/** Files that could not be opened are an error of each job on them. */
let files: Open | { error: unknown } | null = null;
const raw = Buffer.alloc(chunkBytes);
const zeros = Buffer.alloc(chunkBytes);

parentPort?.on("message", (order: Order) => {
  if ("open" in order) {
    close();
    files = order.open === null ? null : open(order.open);
    return;
  }
  const answer = perform(order);
  const moved = "packed" in answer ? [answer.packed.bytes.buffer as ArrayBuffer] : [];
  parentPort?.postMessage(answer, moved);
});

function open({ from, into, memoryBytes }: ThreadData): Open | { error: unknown } {
  let source: number | undefined;
  try {
    source = openSync(from, "r");
    return { from: source, into: into === null ? null : openSync(into, "r+"), memoryBytes };
  } catch (error) {
    if (source !== undefined) closeSync(source);
    return { error };
  }
}

function close(): void {
  if (files === null || "error" in files) return;
  closeSync(files.from);
  if (files.into !== null) closeSync(files.into);
}

function perform(job: Job): Answer {
  try {
    if (files === null) throw new Error("nothing is open");
    if ("error" in files) throw files.error;
    if ("pack" in job) return { packed: pack(files, job.pack) };
    if ("unpack" in job) return { damages: unpack(files, job.unpack) };
    copy(files, job.copy);
    return { copied: true };
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException;
    return { error: { message, code } };
  }
}

/** Zero chunks are left out: readers of a mapping fill holes with zero pages. */
function pack({ from, memoryBytes }: Open, chunks: readonly number[]): PackedBatch {
  const rows: PackedBatch["rows"] = [];
  const parts: Uint8Array[] = [];
  for (const chunk of chunks) {
    const offset = chunk * chunkBytes;
    const bytes = raw.subarray(0, bytesOfChunk(chunk, memoryBytes));
    readWhole(from, bytes, offset);
    if (bytes.equals(zeros.subarray(0, bytes.length))) continue;
    const compressed = zstdCompressSync(bytes, compression);
    const stored = compressed.length < bytes.length ? compressed : Buffer.from(bytes);
    rows.push({ chunk, length: stored.length, sha256: new Uint8Array(hash("sha256", stored, "buffer")) });
    parts.push(stored);
  }
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return { rows, bytes: all };
}

/** Rows whose ranges follow each other. Returns what is damaged; the rest is written, where it is wanted. */
function unpack(
  { from, into, memoryBytes }: Open,
  rows: readonly MemoryRow[],
): { row: MemoryRow; why: string }[] {
  const first = rows[0] as MemoryRow;
  const last = rows.at(-1) as MemoryRow;
  const stored = Buffer.allocUnsafe(last.offset + last.length - first.offset);
  readWhole(from, stored, first.offset);
  return rows.flatMap((row) => {
    const at = row.offset - first.offset;
    const size = bytesOfChunk(row.chunk, memoryBytes);
    const why = unpackChunk(stored.subarray(at, at + row.length), size, row, into);
    return why === undefined ? [] : [{ row, why }];
  });
}

function unpackChunk(stored: Buffer, size: number, row: MemoryRow, into: number | null): string | undefined {
  if (!hash("sha256", stored, "buffer").equals(row.sha256)) return "its digest is not that of the index";
  let bytes: Buffer;
  try {
    bytes = stored.length === size ? stored : decompress(stored, size);
  } catch (error) {
    return `it does not decompress to ${size} bytes (${(error as Error).message})`;
  }
  if (bytes.length !== size) return `it decompresses to ${bytes.length} bytes instead of ${size}`;
  if (into !== null) writePopulated(into, bytes, row.chunk * chunkBytes);
  return undefined;
}

function decompress(stored: Buffer, size: number): Buffer {
  const params = { [constants.ZSTD_d_windowLogMax]: largestWindowLog };
  const options = { maxOutputLength: size, chunkSize: size + slack, params, info: true };
  // With `info` it gives what has done it as well, which its type does not say.
  const done: unknown = zstdDecompressSync(stored, options);
  const { buffer, engine } = done as { buffer: Buffer; engine: { bytesWritten: number } };
  const rest = stored.subarray(engine.bytesWritten);
  // Where a frame filled a buffer exactly, Node (24.21) has put an empty one behind it.
  if (rest.length > 0 && zstdDecompressSync(rest, { maxOutputLength: 1, params }).length > 0)
    throw new Error("something follows its frame");
  return buffer;
}

/** Zeros too: what was there before may be something else. */
function copy({ from: source, into }: Open, pieces: readonly Piece[]): void {
  for (const { from, to, bytes } of pieces) {
    for (let done = 0; done < bytes; done += raw.length) {
      const part = raw.subarray(0, Math.min(raw.length, bytes - done));
      readWhole(source, part, from + done);
      if (into !== null) writeWhole(into, part, to + done);
    }
  }
}

/** Writes runs of pages that are not zero, so that what was a hole is one again. */
function writePopulated(file: number, bytes: Buffer, offset: number): void {
  let start = -1;
  for (let page = 0; page <= bytes.length; page += pageBytes) {
    const isZero = page === bytes.length || bytes.compare(zeros, 0, pageBytes, page, page + pageBytes) === 0;
    if (isZero && start >= 0) {
      writeWhole(file, bytes.subarray(start, page), offset + start);
      start = -1;
    } else if (!isZero && start < 0) start = page;
  }
}

function readWhole(from: number, bytes: Buffer, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    const count = readSync(from, bytes, done, bytes.length - done, offset + done);
    if (count === 0) throw new Error(`it ends at byte ${offset + done}`);
    done += count;
  }
}

function writeWhole(file: number, bytes: Buffer, offset: number): void {
  for (let done = 0; done < bytes.length; ) {
    done += writeSync(file, bytes, done, bytes.length - done, offset + done);
  }
}
