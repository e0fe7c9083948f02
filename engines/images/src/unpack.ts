import { spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { constants, copyFile, type FileHandle, open, rm, stat } from "node:fs/promises";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { formatSize, type Work } from "@skep/base";
import { fail } from "./errors.ts";
import { needCommands } from "./requirements.ts";

type Compression = "gzip" | "xz" | "zstd";

const largestDisk = 256 * 1024 ** 3;
const largestRatio = 1000;
const smallBytes = 16 * 1024 ** 3; // below this no ratio is suspicious: empty disks compress without end
const block = 65_536;

/** Told by the first bytes, not by the name. */
async function compressionOf(path: string): Promise<Compression | undefined> {
  const handle = await open(path, "r");
  try {
    const head = Buffer.alloc(6);
    await handle.read(head, 0, 6, 0);
    if (head.readUInt16BE(0) === 0x1f8b) return "gzip";
    if (head.equals(Buffer.from("fd377a585a00", "hex"))) return "xz";
    return head.readUInt32LE(0) === 0xfd2fb528 ? "zstd" : undefined;
  } finally {
    await handle.close();
  }
}

/**
 * Copies a disk, or unpacks a compressed one. The source is never moved or changed; blocks are shared
 * where the file system can, and holes stay holes.
 */
export async function takeFile(source: string, target: string, label: string, work: Work): Promise<void> {
  const compression = await compressionOf(source);
  if (compression === undefined && (await shared(source, target))) return;
  const packed = (await stat(source)).size;
  const limit = Math.min(largestDisk, Math.max(smallBytes, packed * largestRatio));
  const phase = `${compression === undefined ? "copying" : "unpacking"} ${label}`;
  const file = await open(target, "wx", 0o600);
  try {
    const stream = await unpacked(source, compression, work.signal);
    let reported = 0;
    const length = await writeSparse(stream, file, work.signal, (position) => {
      if (compression !== undefined && position > limit) {
        const why = `it unpacks to more than ${formatSize(limit)}`;
        throw fail("DISK_REFUSED", { path: label, why, hint: "unpack it yourself, and look at it, first" });
      }
      if (position - reported < 16 << 20) return;
      reported = position;
      work.report({
        phase,
        done: position,
        unit: "bytes",
        ...(compression === undefined ? { total: packed } : {}),
      });
    });
    await file.truncate(length);
  } catch (error) {
    work.signal.throwIfAborted();
    await rm(target, { force: true });
    if (
      (error as { code?: string }).code?.startsWith("Z_") ||
      (error as { code?: string }).code?.startsWith("ZSTD_")
    ) {
      const why = `it cannot be unpacked (${(error as Error).message}): cut off or damaged`;
      throw fail("DISK_REFUSED", { path: label, why, hint: "get the file again" }, { cause: error });
    }
    throw error;
  } finally {
    await file.close();
  }
}

async function shared(source: string, target: string): Promise<boolean> {
  try {
    await copyFile(source, target, constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL);
    return true;
  } catch {
    await rm(target, { force: true });
    return false; // the file system shares no blocks, or the two are on different ones
  }
}

async function unpacked(
  source: string,
  compression: Compression | undefined,
  signal: AbortSignal,
): Promise<AsyncIterable<Buffer>> {
  const packed = createReadStream(source, { highWaterMark: 1 << 20, signal });
  if (compression === undefined) return packed;
  if (compression === "xz") return await unpackXz(source, signal);
  const stream =
    compression === "gzip"
      ? createGunzip({ chunkSize: 1 << 20 })
      : createZstdDecompress({ chunkSize: 1 << 20 });
  packed.on("error", (error) => stream.destroy(error));
  return packed.pipe(stream);
}

async function unpackXz(source: string, signal: AbortSignal): Promise<AsyncIterable<Buffer>> {
  await needCommands(["xz"]);
  const child = spawn("xz", ["--decompress", "--stdout", "--memlimit=1GiB", "--", source], {
    stdio: ["ignore", "pipe", "pipe"],
    signal,
  });
  const ended = new Promise<{ status: number; stderr: string }>((resolve, reject) => {
    let stderr = "";
    child.once("error", reject);
    child.once("close", (code) => resolve({ status: code ?? 1, stderr }));
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-2000);
    });
  });
  ended.catch(() => undefined);
  return (async function* () {
    try {
      yield* child.stdout as AsyncIterable<Buffer>;
      const { status, stderr } = await ended;
      if (status !== 0) throw Object.assign(new Error(stderr.trim()), { code: "Z_DATA_ERROR" });
    } finally {
      child.kill("SIGKILL");
    }
  })();
}

const zeros = Buffer.alloc(block);

/** Writes a stream and leaves holes for blocks of zeros. Returns its length. */
async function writeSparse(
  stream: AsyncIterable<Buffer>,
  file: FileHandle,
  signal: AbortSignal,
  onPosition: (position: number) => void,
): Promise<number> {
  let position = 0;
  for await (const part of stream) {
    signal.throwIfAborted();
    for (let at = 0; at < part.length; at += block) {
      const piece = part.subarray(at, at + block);
      if (!piece.equals(zeros.subarray(0, piece.length)))
        await file.write(piece, 0, piece.length, position + at);
    }
    position += part.length;
    onPosition(position);
  }
  return position;
}
