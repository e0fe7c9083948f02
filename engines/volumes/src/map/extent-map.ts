/** Sources that are no segment and no chunk: nothing is there; or zeroes are, whatever lies below. */
export const hole = 0xffffffff;
export const zero = 0xfffffffe;

export type Visit = (block: number, count: number, source: number, position: number) => void;

const pageBlocks = 4096;
const directoryPages = 1024;
const directoryBlocks = pageBlocks * directoryPages;
const maxBlocks = 2 ** 32;

/** What the engine takes for a page beside its words, about. */
const pageOverhead = 240;
const directoryOverhead = directoryPages * 8 + 64;

/**
 * Sorted extents of 4,096 blocks, three words each: start (12 bits) and length - 1 (12 bits), source, position.
 * A shared page (of one long run of zeroes) lies in many places and is copied before it changes.
 */
interface Page {
  words: Uint32Array;
  used: number;
  shared: boolean;
}

interface Directory {
  pages: (Page | undefined)[];
  used: number;
  shared: boolean;
}

const startOf = (word: number): number => word & 0xfff;
const endOf = (word: number): number => (word & 0xfff) + ((word >>> 12) & 0xfff) + 1;
const pack = (start: number, end: number): number => start | ((end - start - 1) << 12);

/** The index of the first extent that ends behind `at`. */
function search(page: Page, at: number): number {
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

/**
 * Which block of a volume lies where: block -> (source, position), both u32, for up to 2^32 blocks. `position`
 * advances by `step` a block within a run (not for `zero`, where it says only what the setter wants to know).
 * Memory follows what is mapped: 12 bytes an extent and some slack. No visitor may change the map.
 */
export class ExtentMap {
  foundSource = hole;
  foundPosition = 0;
  readonly #step: number;
  #directories: (Directory | undefined)[] = [];
  #blocks = 0;
  #extents = 0;
  #memoryBytes = 256;

  constructor(step: number) {
    this.#step = step;
  }

  get blocks(): number {
    return this.#blocks;
  }

  /** Runs that a page's border cuts count once a page. */
  get extents(): number {
    return this.#extents;
  }

  get memoryBytes(): number {
    return this.#memoryBytes + this.#directories.length * 8;
  }

  clear(): void {
    this.#directories = [];
    this.#blocks = 0;
    this.#extents = 0;
    this.#memoryBytes = 256;
  }

  /** `replaced` is told each run that was there before (no holes), before it goes. */
  set(block: number, count: number, source: number, position: number, replaced?: Visit): void {
    if (source === hole) {
      this.remove(block, count, replaced);
      return;
    }
    const end = checkedEnd(block, count);
    const step = source === zero ? 0 : this.#step;
    let sharedPage: Page | undefined;
    let sharedDirectory: Directory | undefined;
    for (let at = block; at < end; ) {
      const index = Math.floor(at / directoryBlocks);
      if (step === 0 && at % directoryBlocks === 0 && end - at >= directoryBlocks) {
        this.#dropDirectory(index, replaced);
        sharedPage ??= wholePage(source, position);
        sharedDirectory ??= {
          pages: new Array<Page | undefined>(directoryPages).fill(sharedPage),
          used: directoryPages,
          shared: true,
        };
        this.#putDirectory(index, sharedDirectory);
        this.#blocks += directoryBlocks;
        this.#extents += directoryPages;
        at += directoryBlocks;
        continue;
      }
      const directory = this.#ownDirectory(index);
      const slot = (at >>> 12) % directoryPages;
      const start = at % pageBlocks;
      const stop = Math.min(pageBlocks, start + (end - at));
      if (step === 0 && stop - start === pageBlocks) {
        this.#dropPage(directory, index, slot, replaced);
        sharedPage ??= wholePage(source, position);
        directory.pages[slot] = sharedPage;
        directory.used++;
        this.#blocks += pageBlocks;
        this.#extents++;
      } else {
        const page = this.#ownPage(directory, slot);
        const place = (position + (at - block) * step) >>> 0;
        this.#splice(page, at - start, start, stop, source, place, replaced);
      }
      at += stop - start;
    }
  }

  remove(block: number, count: number, replaced?: Visit): void {
    const end = checkedEnd(block, count);
    for (let at = block; at < end; ) {
      const index = Math.floor(at / directoryBlocks);
      const directory = this.#directories[index];
      const directoryEnd = (index + 1) * directoryBlocks;
      if (directory === undefined) {
        if (index >= this.#directories.length) return;
        at = directoryEnd;
        continue;
      }
      if (at % directoryBlocks === 0 && end >= directoryEnd) {
        this.#dropDirectory(index, replaced);
        at = directoryEnd;
        continue;
      }
      const slot = (at >>> 12) % directoryPages;
      const start = at % pageBlocks;
      const stop = Math.min(pageBlocks, start + (end - at));
      if (directory.pages[slot] !== undefined) this.#removeInPage(index, slot, start, stop, replaced);
      at += stop - start;
    }
  }

  /** Takes out every run of which `gone` says so, in one pass. */
  removeWhere(gone: (source: number, position: number) => boolean): void {
    const runs: number[] = [];
    for (let index = 0; index < this.#directories.length; index++) {
      const shared = this.#directories[index];
      if (shared?.shared) {
        const words = (shared.pages[0] as Page).words;
        if (gone(words[1] as number, words[2] as number)) this.#dropDirectory(index);
        continue;
      }
      const pages = shared?.pages ?? [];
      for (let slot = 0; slot < pages.length; slot++) {
        const page = pages[slot];
        if (page === undefined) continue;
        runs.length = 0;
        for (let i = 0; i < page.used * 3; i += 3) {
          if (gone(page.words[i + 1] as number, page.words[i + 2] as number))
            runs.push(page.words[i] as number);
        }
        if (runs.length === page.used) this.#dropPage(shared as Directory, index, slot);
        else for (const run of runs) this.#removeInPage(index, slot, startOf(run), endOf(run));
        if ((shared as Directory).used === 0) this.#dropDirectory(index);
      }
    }
  }

  /** Every run of the range in order, holes included, clipped to it; data in two pages is two runs. */
  forRange(block: number, count: number, visit: Visit): void {
    const end = checkedEnd(block, count);
    let from = block; // what lies between this and the next run is a hole
    for (let at = block; at < end; ) {
      const index = Math.floor(at / directoryBlocks);
      const directory = this.#directories[index];
      const directoryEnd = Math.min(end, (index + 1) * directoryBlocks);
      if (directory === undefined) {
        at = index < this.#directories.length ? directoryEnd : end;
        continue;
      }
      if (directory.shared) {
        const { words } = directory.pages[0] as Page;
        if (from < at) visit(from, at - from, hole, 0);
        visit(at, directoryEnd - at, words[1] as number, words[2] as number);
        from = at = directoryEnd;
        continue;
      }
      const start = at % pageBlocks;
      const base = at - start;
      const stop = Math.min(pageBlocks, end - base);
      const page = directory.pages[(at >>> 12) % directoryPages];
      if (page !== undefined) {
        const { words } = page;
        for (let i = search(page, start) * 3; i < page.used * 3; i += 3) {
          const first = startOf(words[i] as number);
          if (first >= stop) break;
          const clipped = Math.max(first, start);
          const until = Math.min(endOf(words[i] as number), stop);
          const source = words[i + 1] as number;
          const position = this.#advance(source, words[i + 2] as number, clipped - first);
          if (from < base + clipped) visit(from, base + clipped - from, hole, 0);
          visit(base + clipped, until - clipped, source, position);
          from = base + until;
        }
      }
      at = base + stop;
    }
    if (from < end) visit(from, end - from, hole, 0);
  }

  /**
   * How long the first run at `block` is, at most `count` and to the end of its page; `foundSource` and
   * `foundPosition` say where it lies. Allocates nothing.
   */
  find(block: number, count: number): number {
    const start = block % pageBlocks;
    const most = Math.min(count, pageBlocks - start);
    this.foundSource = hole;
    this.foundPosition = 0;
    const page =
      this.#directories[Math.floor(block / directoryBlocks)]?.pages[(block >>> 12) % directoryPages];
    if (page === undefined) return most;
    const i = search(page, start) * 3;
    if (i === page.used * 3) return most;
    const word = page.words[i] as number;
    const first = startOf(word);
    if (first > start) return Math.min(most, first - start);
    const source = page.words[i + 1] as number;
    this.foundSource = source;
    this.foundPosition = this.#advance(source, page.words[i + 2] as number, start - first);
    return Math.min(most, endOf(word) - start);
  }

  /** The first mapped block of the range; its end where there is none. */
  firstMapped(block: number, count: number): number {
    const end = checkedEnd(block, count);
    for (let at = block; at < end; ) {
      const index = Math.floor(at / directoryBlocks);
      const directory = this.#directories[index];
      if (directory === undefined) {
        if (index >= this.#directories.length) return end;
        at = (index + 1) * directoryBlocks;
        continue;
      }
      const start = at % pageBlocks;
      const page = directory.pages[(at >>> 12) % directoryPages];
      const i = page === undefined ? 0 : search(page, start);
      if (page !== undefined && i < page.used) {
        return Math.min(end, at - start + Math.max(start, startOf(page.words[i * 3] as number)));
      }
      at += pageBlocks - start;
    }
    return end;
  }

  /** All mapped runs, ascending. */
  forEach(visit: Visit): void {
    this.forRange(0, this.#directories.length * directoryBlocks, (block, count, source, position) => {
      if (source !== hole) visit(block, count, source, position);
    });
  }

  #advance(source: number, position: number, blocks: number): number {
    return source === zero ? position : (position + blocks * this.#step) >>> 0;
  }

  #tell(page: Page, base: number, replaced: Visit): void {
    for (let i = 0; i < page.used * 3; i += 3) {
      const word = page.words[i] as number;
      const start = startOf(word);
      replaced(base + start, endOf(word) - start, page.words[i + 1] as number, page.words[i + 2] as number);
    }
  }

  #putDirectory(index: number, directory: Directory): void {
    while (this.#directories.length <= index) this.#directories.push(undefined);
    this.#directories[index] = directory;
  }

  #ownDirectory(index: number): Directory {
    const directory = this.#directories[index];
    if (directory !== undefined && !directory.shared) return directory;
    const own: Directory = {
      pages: directory?.pages.slice() ?? new Array<Page | undefined>(directoryPages).fill(undefined),
      used: directory?.used ?? 0,
      shared: false,
    };
    this.#memoryBytes += directoryOverhead;
    this.#putDirectory(index, own);
    return own;
  }

  #ownPage(directory: Directory, slot: number): Page {
    const page = directory.pages[slot];
    if (page !== undefined && !page.shared) return page;
    const own: Page = {
      words: page?.words.slice() ?? new Uint32Array(6),
      used: page?.used ?? 0,
      shared: false,
    };
    if (page === undefined) directory.used++;
    this.#memoryBytes += pageOverhead + own.words.byteLength;
    directory.pages[slot] = own;
    return own;
  }

  #dropDirectory(index: number, replaced?: Visit): void {
    const directory = this.#directories[index];
    if (directory === undefined) return;
    if (directory.shared) {
      const { words } = directory.pages[0] as Page;
      replaced?.(index * directoryBlocks, directoryBlocks, words[1] as number, words[2] as number);
      this.#blocks -= directoryBlocks;
      this.#extents -= directoryPages;
    } else {
      for (let slot = 0; slot < directoryPages; slot++) this.#dropPage(directory, index, slot, replaced);
      this.#memoryBytes -= directoryOverhead;
    }
    this.#directories[index] = undefined;
    while (this.#directories.length > 0 && this.#directories.at(-1) === undefined) this.#directories.pop();
  }

  #dropPage(directory: Directory, index: number, slot: number, replaced?: Visit): void {
    const page = directory.pages[slot];
    if (page === undefined) return;
    if (replaced !== undefined) this.#tell(page, index * directoryBlocks + slot * pageBlocks, replaced);
    for (let i = 0; i < page.used * 3; i += 3) {
      const word = page.words[i] as number;
      this.#blocks -= endOf(word) - startOf(word);
    }
    this.#extents -= page.used;
    if (!page.shared) this.#memoryBytes -= pageOverhead + page.words.byteLength;
    directory.pages[slot] = undefined;
    directory.used--;
  }

  #removeInPage(index: number, slot: number, start: number, stop: number, replaced?: Visit): void {
    const directory = this.#ownDirectory(index);
    if (stop - start === pageBlocks) {
      this.#dropPage(directory, index, slot, replaced);
    } else {
      const page = this.#ownPage(directory, slot);
      const base = index * directoryBlocks + slot * pageBlocks;
      this.#splice(page, base, start, stop, hole, 0, replaced);
      if (page.used === 0) this.#dropPage(directory, index, slot);
    }
    if (directory.used === 0) this.#dropDirectory(index);
  }

  /** Puts a run in the place of whatever lies in [start, stop) of a page; of a hole, takes that out. */
  #splice(
    page: Page,
    base: number,
    start: number,
    stop: number,
    source: number,
    position: number,
    replaced?: Visit,
  ): void {
    let { words } = page;
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
        replaced(base + clipped, clippedEnd - clipped, was, this.#advance(was, place, clipped - from));
      }
      this.#blocks -= clippedEnd - clipped;
      if (from < start) left = from;
      if (until > stop) {
        right = until;
        rightSource = was;
        rightPosition = this.#advance(was, place, stop - from);
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
      this.#blocks += stop - start;
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
        this.#advance(source, leftPosition, start - left) === position
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
        this.#advance(source, position, stop - start) === rightPosition
      ) {
        newStop = right;
        right = -1;
      }
    }
    const pieces = (left >= 0 ? 1 : 0) + (source === hole ? 0 : 1) + (right >= 0 ? 1 : 0);
    words = this.#makeRoom(page, first, last, pieces);
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

  /** Makes the extents [first, last) of a page `pieces` long; their words are to be written. */
  #makeRoom(page: Page, first: number, last: number, pieces: number): Uint32Array {
    const used = page.used + pieces - (last - first);
    const { words } = page;
    if (used * 3 > words.length || used * 6 + 24 < words.length) {
      // an eighth to a quarter of slack: memory is dearer here than copying a page now and then
      const grown = new Uint32Array((used + Math.min(96, (used >>> 2) + 1)) * 3);
      grown.set(words.subarray(0, first * 3));
      grown.set(words.subarray(last * 3, page.used * 3), (first + pieces) * 3);
      this.#memoryBytes += grown.byteLength - words.byteLength;
      page.words = grown;
    } else if (pieces !== last - first && last < page.used) {
      words.copyWithin((first + pieces) * 3, last * 3, page.used * 3);
    }
    this.#extents += used - page.used;
    page.used = used;
    return page.words;
  }
}

function wholePage(source: number, position: number): Page {
  return { words: Uint32Array.of(pack(0, pageBlocks), source, position), used: 1, shared: true };
}

function checkedEnd(block: number, count: number): number {
  const end = block + count;
  if (!(block >= 0 && count >= 0 && end <= maxBlocks)) {
    throw new RangeError(`blocks ${block} to ${end} are not of a volume`);
  }
  return end;
}
