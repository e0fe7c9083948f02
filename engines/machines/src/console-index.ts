/**
 * When which part of a console log was written. A text file beside the log:
 *
 * ```
 * skep-console-index 1
 * base 16777216          the log's first byte is byte 16777216 of all that was ever printed
 * 16778000 1763683200123 byte 16778000 was printed at this time (ms since 1970)
 * ```
 *
 * Later lines win; offsets never go back. It only serves `--since`, so damage is never an error.
 */
export interface IndexEntry {
  offset: number;
  timeMs: number;
}

export interface ConsoleIndex {
  base: number;
  entries: IndexEntry[];
}

const header = "skep-console-index 1";

export function formatIndex(index: ConsoleIndex): string {
  const entries = index.entries.map(formatEntry).join("");
  return `${header}\n${formatBase(index.base)}${entries}`;
}

export function formatEntry(entry: IndexEntry): string {
  return `${entry.offset} ${entry.timeMs}\n`;
}

export function formatBase(base: number): string {
  return `base ${base}\n`;
}

/**
 * Reads what is sound of an index. `intact` is false when something had to be left out, or the file
 * ends in the middle of a line, so that nothing may be appended before it is written anew.
 */
export function parseIndex(text: string): { index: ConsoleIndex; intact: boolean } | undefined {
  const lines = text.split("\n");
  if (lines.shift() !== header) return undefined;
  const index: ConsoleIndex = { base: 0, entries: [] };
  let intact = lines.pop() === "";
  let sawBase = false;
  let lastOffset = 0;
  for (const line of lines) {
    const [, first, second] = /^(base|\d{1,15}) (\d{1,15})$/.exec(line) ?? [];
    const value = Number(second);
    if (first === undefined) intact = false;
    else if (first === "base") {
      if (value < index.base) intact = false;
      else index.base = value;
      sawBase = true;
    } else if (Number(first) < lastOffset) intact = false;
    else {
      lastOffset = Number(first);
      index.entries.push({ offset: lastOffset, timeMs: value });
    }
  }
  return sawBase ? { index, intact } : undefined;
}

/** The offset from which everything printed at or after `sinceMs` follows, to within a second. */
export function offsetSince(index: ConsoleIndex, sinceMs: number): number {
  const entry = index.entries.find((one) => one.timeMs > sinceMs - 1000);
  return entry?.offset ?? Number.MAX_SAFE_INTEGER;
}
