import { setTimeout as sleep } from "node:timers/promises";

const blockBytes = 64 * 1024;
const pollMs = 200;

/** A log that grows, as a run of bytes with lasting offsets. Its beginning may be cut away. */
export interface GrowingLog {
  /** The oldest offset that can be read, and the offset behind the newest byte. */
  extent(): Promise<{ start: number; end: number }>;
  /** At most `length` bytes from `offset`; none when they are not there (any more). */
  readAt(offset: number, length: number): Promise<Buffer>;
}

/** The offset at which the last `lines` lines begin; a line end at the very end begins no new line. */
export async function offsetOfTail(log: GrowingLog, lines: number): Promise<number> {
  const { start, end } = await log.extent();
  if (lines <= 0) return end;
  let wanted = lines;
  for (let high = end; high > start; ) {
    const low = Math.max(start, high - blockBytes);
    const block = await readWhole(log, low, high - low);
    for (let at = block.length - 1; at >= 0; at -= 1) {
      if (block[at] !== 0x0a || low + at === end - 1) continue;
      wanted -= 1;
      if (wanted === 0) return low + at + 1;
    }
    high = low;
  }
  return start;
}

/** A piece may end where one file of the log does; this goes on in the next. */
async function readWhole(log: GrowingLog, offset: number, length: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for (let done = 0; done < length; ) {
    const piece = await log.readAt(offset + done, length - done);
    if (piece.length === 0) break;
    pieces.push(piece);
    done += piece.length;
  }
  return Buffer.concat(pieces);
}

/** What is there now, from `offset` on. */
export async function* readFrom(log: GrowingLog, offset: number): AsyncGenerator<Buffer, number> {
  const { end } = await log.extent();
  let at = offset;
  while (at < end) {
    at = Math.max(at, (await log.extent()).start);
    const block = await log.readAt(at, Math.min(blockBytes, end - at));
    if (block.length === 0) break;
    at += block.length;
    yield block;
  }
  return at;
}

/** What is there and what comes, until the signal; then it ends without an error. */
export async function* followFrom(
  log: GrowingLog,
  offset: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer> {
  let at = offset;
  while (!signal?.aborted) {
    const { start, end } = await log.extent();
    if (end < at) at = start; // the file was begun anew
    at = Math.max(at, start);
    const block = at < end ? await log.readAt(at, Math.min(blockBytes, end - at)) : Buffer.alloc(0);
    if (block.length > 0) {
      at += block.length;
      yield block;
      continue;
    }
    await sleep(pollMs, undefined, signal === undefined ? {} : { signal }).catch(() => {});
  }
}
