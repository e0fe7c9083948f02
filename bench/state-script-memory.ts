/** A guest's memory as a script would keep it: copied, or packed into chunks. Nothing is verified. */
import { execFile } from "node:child_process";
import {
  closeSync,
  fdatasyncSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
const map = promisify(execFile);
const chunkBytes = 1_048_576;
const params = { [constants.ZSTD_c_compressionLevel]: 1 };
/** More would wait for the same two cores. */
const atOnce = 3;

export interface Range {
  start: number;
  length: number;
}

/** What of a sparse file is there, with small gaps. */
export async function populatedRanges(path: string): Promise<Range[]> {
  const args = ["map", "-U", "--output=json", "-f", "raw", path];
  const { stdout } = await map("qemu-img", args, { maxBuffer: 2 ** 28 });
  const ranges: Range[] = [];
  for (const { start, length, data } of JSON.parse(stdout) as (Range & { data: boolean })[]) {
    if (!data) continue;
    const last = ranges.at(-1);
    if (last !== undefined && start - last.start - last.length <= 16_384)
      last.length = start + length - last.start;
    else ranges.push({ start, length });
  }
  return ranges;
}

export function copyRanges(from: string, into: string, ranges: readonly Range[]): void {
  const [source, target] = [openSync(from, "r"), openSync(into, "r+")];
  const buffer = Buffer.allocUnsafe(chunkBytes);
  for (const { start, length } of ranges) {
    for (let done = 0; done < length; ) {
      const count = readSync(source, buffer, 0, Math.min(chunkBytes, length - done), start + done);
      done += writeSync(target, buffer, 0, count, start + done);
    }
  }
  closeSync(source);
  closeSync(target);
}

interface Chunk {
  /** In the memory, and in the pack; bytes. */
  at: number;
  offset: number;
  length: number;
}

/** Into `pack` and `pack.json` of a directory, durable when it returns. Gives the bytes stored. */
export async function packMemory(ram: string, directory: string): Promise<number> {
  const numbers = new Set<number>();
  for (const { start, length } of await populatedRanges(ram)) {
    for (let at = start - (start % chunkBytes); at < start + length; at += chunkBytes) numbers.add(at);
  }
  const places = [...numbers];
  const zeros = Buffer.alloc(chunkBytes);
  const [source, target] = [openSync(ram, "r"), openSync(join(directory, "pack"), "w")];
  const chunks: Chunk[] = [];
  let end = 0;
  await inParallel(places, async (at) => {
    const bytes = Buffer.allocUnsafe(chunkBytes);
    readSync(source, bytes, 0, chunkBytes, at);
    if (bytes.equals(zeros)) return;
    const stored = await compress(bytes, { params, chunkSize: chunkBytes });
    chunks.push({ at, offset: end, length: stored.length });
    end += stored.length;
    writeSync(target, stored, 0, stored.length, (chunks.at(-1) as Chunk).offset);
  });
  fdatasyncSync(target);
  closeSync(source);
  closeSync(target);
  writeFileSync(join(directory, "pack.json"), JSON.stringify(chunks), { flush: true });
  return end;
}

/** Into a file that reads as zeros. */
export async function unpackMemory(directory: string, ram: string): Promise<void> {
  const chunks: Chunk[] = JSON.parse(readFileSync(join(directory, "pack.json"), "utf8"));
  const [source, target] = [openSync(join(directory, "pack"), "r"), openSync(ram, "r+")];
  await inParallel(chunks, async ({ at, offset, length }) => {
    const stored = Buffer.allocUnsafe(length);
    readSync(source, stored, 0, length, offset);
    writeSync(target, await decompress(stored, { chunkSize: chunkBytes }), 0, chunkBytes, at);
  });
  closeSync(source);
  closeSync(target);
}

async function inParallel<T>(all: readonly T[], work: (one: T) => Promise<void>): Promise<void> {
  const rest = all.values(); // which they share
  const worker = async () => {
    for (const one of rest) await work(one);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
