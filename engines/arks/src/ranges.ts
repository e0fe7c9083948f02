import { run } from "@skep/base";
import { fail } from "./errors.ts";
import { chunkBytes } from "./types.ts";

/** From a byte up to another, which is not in it. */
export interface Range {
  start: number;
  end: number;
}

/** A gap that costs more as a gap than as bytes to be copied. */
const smallGap = 16_384;

/** Numbers of the chunks of a memory file that may hold something, ascending. STATE_MEMORY. */
export async function populatedChunks(
  path: string,
  memoryBytes: number,
  signal: AbortSignal | undefined,
): Promise<number[]> {
  const isPopulated = new Uint8Array(Math.ceil(memoryBytes / chunkBytes));
  for (const { start, end } of await populatedRanges(path, memoryBytes, signal)) {
    isPopulated.fill(1, Math.floor(start / chunkBytes), Math.ceil(end / chunkBytes));
  }
  const chunks: number[] = [];
  for (const [chunk, mark] of isPopulated.entries()) if (mark === 1) chunks.push(chunk);
  return chunks;
}

/**
 * What of a memory file may hold something, ascending, with small gaps in it. Node cannot ask for holes
 * (SEEK_DATA) itself; qemu-img can, and reading holes through a mapping would fill them. STATE_MEMORY.
 *
 * @param path absolute
 */
export async function populatedRanges(
  path: string,
  memoryBytes: number,
  signal: AbortSignal | undefined,
): Promise<Range[]> {
  const ranges: Range[] = [];
  const refuse = (why: string) => fail("STATE_MEMORY", { path, why });
  let end = 0;
  let problem: Error | undefined;
  // Line by line, as a memory in tatters has hundreds of thousands of ranges.
  const take = (line: string) => {
    const entry = /^\[?(\{.*\})[,\]]?$/.exec(line.trim());
    if (entry === null || problem !== undefined) return;
    try {
      const { start, length, data } = JSON.parse(entry[1] as string) as Record<string, unknown>;
      const isRange = Number.isSafeInteger(length) && (length as number) > 0 && typeof data === "boolean";
      if (start !== end || !isRange) throw refuse(`qemu-img map says of byte ${end}: ${line}`);
      end += length as number;
      if (data) append(ranges, { start, end });
    } catch (error) {
      problem = error as Error;
    }
  };
  const args = ["map", "-U", "--output=json", "-f", "raw", path];
  const install = "apt install qemu-utils";
  await run("qemu-img", args, { signal, onStdoutLine: take, install });
  if (problem !== undefined) throw problem;
  // Whatever it leaves out would be lost, silently.
  if (end !== memoryBytes) throw refuse(`qemu-img map tells of ${end} bytes, not ${memoryBytes}`);
  return ranges;
}

function append(ranges: Range[], range: Range): void {
  const last = ranges.at(-1);
  if (last !== undefined && range.start - last.end <= smallGap) last.end = range.end;
  else ranges.push(range);
}

/** What of `ranges` is in none of `others`; both ascending. */
export function* without(ranges: readonly Range[], others: readonly Range[]): Generator<Range> {
  let next = 0;
  for (const { start, end } of ranges) {
    let at = start;
    while (next < others.length && (others[next] as Range).end <= at) next += 1;
    for (let other = next; at < end; other += 1) {
      const taken = others[other];
      if (taken === undefined || taken.start >= end) {
        yield { start: at, end };
        break;
      }
      if (taken.start > at) yield { start: at, end: taken.start };
      at = Math.max(at, taken.end);
    }
  }
}
