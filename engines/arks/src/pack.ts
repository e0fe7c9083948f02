import { hash } from "node:crypto";
import { type FileHandle, open, rm, stat, writeFile } from "node:fs/promises";
import { Undo } from "@skep/base";
import { fail } from "./errors.ts";
import { bytesOfChunk, encodeIndex, isMemorySize } from "./index-codec.ts";
import { inParts, MemoryThreads } from "./memory-threads.ts";
import { statePaths } from "./paths.ts";
import { populatedChunks } from "./ranges.ts";
import { chunkBytes, type MemoryRecord, type MemoryRow, type Transfer } from "./types.ts";

export interface PackMemoryOptions extends Transfer {
  /** The memory file of a machine that stands still; absolute. */
  ramPath: string;
  memoryBytes: number;
  /** Where `memory.pack` and `memory.idx` are made; they must not be there yet. */
  directory: string;
}

/**
 * Stores what is not zero of a guest's memory, in chunks, and has it on the disk (fdatasync) when it
 * returns. Holes of `ramPath` stay holes. On failure, abort or a full disk, neither file is left.
 * STATE_MEMORY where `ramPath` is not what it should be.
 */
export async function packMemory(options: PackMemoryOptions): Promise<MemoryRecord> {
  const { ramPath, memoryBytes, directory, signal } = options;
  await checkMemoryFile(ramPath, memoryBytes);
  const chunks = await populatedChunks(ramPath, memoryBytes, signal);
  const { index, pack } = statePaths(directory);
  await using undo = new Undo();
  const file = await open(pack, "wx", 0o600);
  undo.push(() => rm(pack, { force: true }));
  let rows: MemoryRow[];
  try {
    rows = await packChunks(file, chunks, options);
    await file.datasync();
  } finally {
    await file.close();
  }
  const packBytes = rows.reduce((sum, row) => sum + row.length, 0);
  const encoded = encodeIndex({ memoryBytes, packBytes, rows });
  const indexFile = await open(index, "wx", 0o600);
  undo.push(() => rm(index, { force: true }));
  try {
    await writeFile(indexFile, encoded);
    await indexFile.datasync();
  } finally {
    await indexFile.close();
  }
  signal?.throwIfAborted();
  undo.keep();
  return {
    bytes: memoryBytes,
    chunkBytes,
    form: "full",
    codec: "zstd",
    chunks: rows.length,
    populatedBytes: rows.reduce((sum, { chunk }) => sum + bytesOfChunk(chunk, memoryBytes), 0),
    index: { bytes: encoded.length, sha256: hash("sha256", encoded, "hex") },
    packBytes,
  };
}

/** A file of another size is another machine's, or none of QEMU's. */
export async function checkMemoryFile(path: string, memoryBytes: number): Promise<void> {
  const refuse = (why: string) => fail("STATE_MEMORY", { path, why });
  if (!isMemorySize(memoryBytes)) throw refuse(`${memoryBytes} bytes are no size of memory`);
  const found = await stat(path);
  if (!found.isFile()) throw refuse("it is no file");
  if (found.size !== memoryBytes) throw refuse(`it has ${found.size} bytes instead of ${memoryBytes}`);
}

/** What the disk may have to take at the end, at most: it writes while the next chunks are compressed. */
const syncEveryBytes = 16 * 1_048_576;

async function packChunks(
  file: FileHandle,
  chunks: number[],
  { ramPath, memoryBytes, idle, signal, onProgress }: PackMemoryOptions,
): Promise<MemoryRow[]> {
  const rows: MemoryRow[] = [];
  const size = (chunk: number) => bytesOfChunk(chunk, memoryBytes);
  const total = chunks.reduce((sum, chunk) => sum + size(chunk), 0);
  const parts = [...inParts(chunks)];
  let end = 0;
  let done = 0;
  let part = 0;
  let unsynced = 0;
  let syncing: Promise<void> | undefined;
  await using threads = new MemoryThreads({ from: ramPath, into: null, memoryBytes }, idle);
  const jobs = parts.map((pack) => ({ pack }));
  try {
    await threads.perform(jobs, signal, async (answer) => {
      if (!("packed" in answer)) return;
      const { bytes, rows: stored } = answer.packed;
      await writeAll(file, bytes, end);
      for (const { chunk, length, sha256 } of stored) {
        rows.push({ chunk, offset: end, length, sha256 });
        end += length;
      }
      unsynced += bytes.length;
      if (unsynced >= syncEveryBytes) {
        await syncing;
        syncing = file.datasync();
        syncing.catch(() => undefined); // told by the await that follows
        unsynced = 0;
      }
      done += (parts[part++] as number[]).reduce((sum, chunk) => sum + size(chunk), 0);
      onProgress?.(done, total);
    });
  } finally {
    // The file is not closed under it.
    await syncing;
  }
  return rows;
}

async function writeAll(file: FileHandle, bytes: Uint8Array, offset: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at, bytes.length - at, offset + at);
    at += bytesWritten;
  }
}
