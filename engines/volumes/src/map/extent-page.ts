/** Sources that are no segment and no chunk: nothing is there; or zeroes are, whatever lies below. */
export const hole = 0xffffffff;
export const zero = 0xfffffffe;

export type Visit = (block: number, count: number, source: number, position: number) => void;

export const pageBlocks = 4096;

/** What the engine takes for a page beside its words, about. */
export const pageOverhead = 240;

/**
 * Sorted extents of 4,096 blocks, three words each: start (12 bits) and length - 1 (12 bits), source, position.
 * A shared page (of one long run of zeroes) lies in many places and is copied before it changes.
 */
export interface Page {
  words: Uint32Array;
  used: number;
  shared: boolean;
}

/** What a map counts over all of its pages. */
export interface Totals {
  blocks: number;
  /** Runs that a page's border cuts count once a page. */
  extents: number;
  memoryBytes: number;
}

/** What all pages of one map share: its counts, and how far a position advances a block. */
export interface Runs {
  readonly totals: Totals;
  readonly step: number;
}

export const startOf = (word: number): number => word & 0xfff;
export const endOf = (word: number): number => (word & 0xfff) + ((word >>> 12) & 0xfff) + 1;
const pack = (start: number, end: number): number => start | ((end - start - 1) << 12);

/** The index of the first extent that ends behind `at`. */
export function search(page: Page, at: number): number {
  const { words } = page;
  let low = 0;
  let high = page.used;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (endOf(words[middle * 3] as number) > at) high = middle;
    else low = middle + 1;
  }
  return low;
}

export function wholePage(source: number, position: number): Page {
  return { words: Uint32Array.of(pack(0, pageBlocks), source, position), used: 1, shared: true };
}

/** The position `blocks` behind the start of a run. */
export function advance(step: number, source: number, position: number, blocks: number): number {
  return source === zero ? position : (position + blocks * step) >>> 0;
}

/** Puts a run in the place of whatever lies in [start, stop) of a page; of a hole, takes that out. */
export function splice(
  { totals, step }: Runs,
  page: Page,
  base: number,
  start: number,
  stop: number,
  source: number,
  position: number,
  replaced?: Visit,
): void {
  let { words } = page;
  if (source !== hole && isBehindAll(page, start)) {
    append({ totals, step }, page, start, stop, source, position);
    return;
  }
  let first = search(page, start);
  let last = first;
  let left = -1; // where the part that stays before `start` begins, and the one behind `stop` ends
  let right = -1;
  let rightSource = 0;
  let rightPosition = 0;
  for (; last < page.used; last++) {
    const word = words[last * 3] as number;
    const from = startOf(word);
    if (from >= stop) break;
    const until = endOf(word);
    const was = words[last * 3 + 1] as number;
    const place = words[last * 3 + 2] as number;
    const clipped = Math.max(from, start);
    const clippedEnd = Math.min(until, stop);
    if (replaced !== undefined) {
      replaced(base + clipped, clippedEnd - clipped, was, advance(step, was, place, clipped - from));
    }
    totals.blocks -= clippedEnd - clipped;
    if (from < start) left = from;
    if (until > stop) {
      right = until;
      rightSource = was;
      rightPosition = advance(step, was, place, stop - from);
    }
  }
  let leftSource = 0;
  let leftPosition = 0;
  if (left >= 0) {
    leftSource = words[first * 3 + 1] as number;
    leftPosition = words[first * 3 + 2] as number;
  }
  let newStart = start;
  let newStop = stop;
  let newPosition = position;
  if (source !== hole) {
    totals.blocks += stop - start;
    // neighbours that continue the run, or that it continues, become part of it
    if (left < 0 && first > 0 && endOf(words[first * 3 - 3] as number) === start) {
      first--;
      left = startOf(words[first * 3] as number);
      leftSource = words[first * 3 + 1] as number;
      leftPosition = words[first * 3 + 2] as number;
    }
    if (
      left >= 0 &&
      leftSource === source &&
      advance(step, source, leftPosition, start - left) === position
    ) {
      newStart = left;
      newPosition = leftPosition;
      left = -1;
    }
    if (right < 0 && last < page.used && startOf(words[last * 3] as number) === stop) {
      right = endOf(words[last * 3] as number);
      rightSource = words[last * 3 + 1] as number;
      rightPosition = words[last * 3 + 2] as number;
      last++;
    }
    if (
      right >= 0 &&
      rightSource === source &&
      advance(step, source, position, stop - start) === rightPosition
    ) {
      newStop = right;
      right = -1;
    }
  }
  const pieces = (left >= 0 ? 1 : 0) + (source === hole ? 0 : 1) + (right >= 0 ? 1 : 0);
  words = makeRoom(totals, page, first, last, pieces);
  let i = first * 3;
  if (left >= 0) {
    words[i] = pack(left, start);
    words[i + 1] = leftSource;
    words[i + 2] = leftPosition;
    i += 3;
  }
  if (source !== hole) {
    words[i] = pack(newStart, newStop);
    words[i + 1] = source;
    words[i + 2] = newPosition;
    i += 3;
  }
  if (right >= 0) {
    words[i] = pack(stop, right);
    words[i + 1] = rightSource;
    words[i + 2] = rightPosition;
  }
}

function isBehindAll({ words, used }: Page, start: number): boolean {
  return used === 0 || endOf(words[used * 3 - 3] as number) <= start;
}

/** As `splice`, behind all that the page has: a map that is loaded, or written in order, knows nothing else. */
function append(
  { totals, step }: Runs,
  page: Page,
  start: number,
  stop: number,
  source: number,
  position: number,
): void {
  const at = page.used * 3;
  totals.blocks += stop - start;
  if (at > 0) {
    const { words } = page;
    const word = words[at - 3] as number;
    const from = startOf(word);
    const follows = advance(step, source, words[at - 1] as number, start - from) === position;
    if (endOf(word) === start && words[at - 2] === source && follows) {
      words[at - 3] = pack(from, stop);
      return;
    }
  }
  if (at + 3 > page.words.length) {
    makeRoom(totals, page, page.used, page.used, 1);
  } else {
    totals.extents++;
    page.used++;
  }
  const { words } = page;
  words[at] = pack(start, stop);
  words[at + 1] = source;
  words[at + 2] = position;
}

/** Makes the extents [first, last) of a page `pieces` long; their words are to be written. */
function makeRoom(totals: Totals, page: Page, first: number, last: number, pieces: number): Uint32Array {
  const used = page.used + pieces - (last - first);
  const { words } = page;
  if (used * 3 > words.length || used * 6 + 24 < words.length) {
    // an eighth to a quarter of slack: memory is dearer here than copying a page now and then
    const grown = new Uint32Array((used + Math.min(96, (used >>> 2) + 1)) * 3);
    grown.set(words.subarray(0, first * 3));
    grown.set(words.subarray(last * 3, page.used * 3), (first + pieces) * 3);
    totals.memoryBytes += grown.byteLength - words.byteLength;
    page.words = grown;
  } else if (pieces !== last - first && last < page.used) {
    words.copyWithin((first + pieces) * 3, last * 3, page.used * 3);
  }
  totals.extents += used - page.used;
  page.used = used;
  return page.words;
}
