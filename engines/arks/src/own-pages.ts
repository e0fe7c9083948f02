import { readFileSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { fail } from "./errors.ts";
import type { Piece } from "./memory-threads.ts";

/** A part of a file that a process has mapped; bytes, and the address in the process. */
interface Mapping {
  address: number;
  bytes: number;
  offset: number;
}

const entryBytes = 8;
const entriesAtOnce = 131_072;
// Of the upper half of an entry (Documentation/admin-guide/mm/pagemap.rst): bits 63, 62 and 61.
const present = 0x8000_0000;
const swapped = 0x4000_0000;
/** A page of the file itself, or of shared memory. */
const ofFile = 0x2000_0000;

/**
 * The pages that a process has for itself of a file that it maps privately, since it wrote to them; all others
 * are as in the file. `from` is the address in the process, as `/proc/PID/mem` has it, `to` the place in the
 * file. The process must stand still. STATE_MEMORY where it does not map the whole file.
 */
export async function ownPages(pid: number, path: string, fileBytes: number): Promise<Piece[]> {
  const pageBytes = hostPageBytes();
  const mappings = await mappingsOf(pid, path, fileBytes);
  const pieces: Piece[] = [];
  const pagemap = await open(`/proc/${pid}/pagemap`, "r");
  try {
    const entries = Buffer.alloc(entriesAtOnce * entryBytes);
    for (const { address, bytes, offset } of mappings) {
      for (let page = 0; page < bytes / pageBytes; page += entriesAtOnce) {
        const count = Math.min(entriesAtOnce, bytes / pageBytes - page);
        const part = entries.subarray(0, count * entryBytes);
        await readAll(pagemap, part, (address / pageBytes + page) * entryBytes);
        const at = page * pageBytes;
        addOwn(pieces, part, { from: address + at, to: offset + at, bytes: pageBytes });
      }
    }
  } finally {
    await pagemap.close();
  }
  return pieces;
}

/** Adds the pages that the entries tell of, the first of which is `first`; neighbours as one piece. */
function addOwn(pieces: Piece[], entries: Buffer, first: Piece): void {
  const pageBytes = first.bytes;
  for (let at = 0; at < entries.length; at += entryBytes) {
    const flags = entries.readUInt32LE(at + 4);
    const isThere = (flags & (present | swapped)) !== 0;
    if (!isThere || (flags & ofFile) !== 0) continue;
    const offset = (at / entryBytes) * pageBytes;
    const [from, to] = [first.from + offset, first.to + offset];
    const last = pieces.at(-1);
    const follows = last !== undefined && last.from + last.bytes === from && last.to + last.bytes === to;
    if (follows) last.bytes += pageBytes;
    else pieces.push({ from, to, bytes: pageBytes });
  }
}

/** By place in the file, all of which they cover, each byte once. */
async function mappingsOf(pid: number, path: string, fileBytes: number): Promise<Mapping[]> {
  const mappings = (await readFile(`/proc/${pid}/maps`, "utf8"))
    .split("\n")
    .flatMap((line) => {
      // address, rights, offset, device, inode, path
      const found = /^([0-9a-f]+)-([0-9a-f]+) ...p ([0-9a-f]+) \S+ \d+\s+(.*)$/.exec(line);
      if (found === null || found[4] !== path) return [];
      const [start = 0, end = 0, offset = 0] = found.slice(1, 4).map((digits) => Number.parseInt(digits, 16));
      return [{ address: start, bytes: end - start, offset }];
    })
    .sort((a, b) => a.offset - b.offset);
  let end = 0;
  for (const { offset, bytes } of mappings) {
    if (offset !== end) throw fail("STATE_MEMORY", { path, why: `its QEMU has not mapped byte ${end}` });
    end += bytes;
  }
  if (end === fileBytes) return mappings;
  throw fail("STATE_MEMORY", { path, why: `its QEMU has mapped ${end} bytes of ${fileBytes}` });
}

async function readAll(
  file: Awaited<ReturnType<typeof open>>,
  bytes: Buffer,
  position: number,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await file.read(bytes, done, bytes.length - done, position + done);
    if (bytesRead === 0) throw new Error("its QEMU has ended");
    done += bytesRead;
  }
}

/** What the kernel tells every process (getauxval(3), AT_PAGESZ): 4096, or more on some aarch64 hosts. */
function hostPageBytes(): number {
  const tellsPageSize = 6n;
  const auxiliary = readFileSync("/proc/self/auxv");
  for (let at = 0; at + 16 <= auxiliary.length; at += 16) {
    if (auxiliary.readBigUInt64LE(at) === tellsPageSize) return Number(auxiliary.readBigUInt64LE(at + 8));
  }
  return 4096;
}
