import {
  advance,
  endOf,
  hole,
  type Page,
  pageBlocks,
  pageOverhead,
  type Runs,
  search,
  splice,
  startOf,
  type Totals,
  type Visit,
  wholePage,
  zero,
} from "./extent-page.ts";

export { hole, type Visit, zero } from "./extent-page.ts";

const directoryPages = 1024;
const directoryBlocks = pageBlocks * directoryPages;
const maxBlocks = 2 ** 32;

/** What the engine takes for each, about. */
const directoryOverhead = directoryPages * 8 + 64;
const emptyBytes = 256;

interface Directory {
  pages: (Page | undefined)[];
  used: number;
  shared: boolean;
}

/**
 * Which block of a volume lies where: block -> (source, position), both u32, for up to 2^32 blocks. `position`
 * advances by `step` a block within a run (not for `zero`, where it says only what the setter wants to know).
 * Memory follows what is mapped: 12 bytes an extent and some slack. No visitor may change the map.
 */
export class ExtentMap {
  foundSource = hole;
  foundPosition = 0;
  readonly #runs: Runs;
  readonly #totals: Totals;
  #directories: (Directory | undefined)[] = [];

  constructor(step: number) {
    this.#totals = { blocks: 0, extents: 0, memoryBytes: emptyBytes };
    this.#runs = { step, totals: this.#totals };
  }

  get blocks(): number {
    return this.#totals.blocks;
  }

  /** Runs that a page's border cuts count once a page. */
  get extents(): number {
    return this.#totals.extents;
  }

  get memoryBytes(): number {
    return this.#totals.memoryBytes + this.#directories.length * 8;
  }

  clear(): void {
    this.#directories = [];
    Object.assign(this.#totals, { blocks: 0, extents: 0, memoryBytes: emptyBytes });
  }

  /** `replaced` is told each run that was there before (no holes), before it goes. */
  set(block: number, count: number, source: number, position: number, replaced?: Visit): void {
    if (source === hole) {
      this.remove(block, count, replaced);
      return;
    }
    const end = checkedEnd(block, count);
    const step = source === zero ? 0 : this.#runs.step;
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
        this.#totals.blocks += directoryBlocks;
        this.#totals.extents += directoryPages;
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
        this.#totals.blocks += pageBlocks;
        this.#totals.extents++;
      } else {
        const page = this.#ownPage(directory, slot);
        const place = (position + (at - block) * step) >>> 0;
        splice(this.#runs, page, at - start, start, stop, source, place, replaced);
      }
      at += stop - start;
    }
  }

  /** That many runs are about to be set, ascending, in the page of `block`: an empty one gets room for all at once. */
  expect(block: number, runs: number): void {
    const directory = this.#ownDirectory(Math.floor(block / directoryBlocks));
    const slot = (block >>> 12) % directoryPages;
    if (directory.pages[slot] === undefined) this.#ownPage(directory, slot, runs);
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
          const position = advance(this.#runs.step, source, words[i + 2] as number, clipped - first);
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
    this.foundPosition = advance(this.#runs.step, source, page.words[i + 2] as number, start - first);
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
    this.#totals.memoryBytes += directoryOverhead;
    this.#putDirectory(index, own);
    return own;
  }

  #ownPage(directory: Directory, slot: number, runs = 2): Page {
    const page = directory.pages[slot];
    if (page !== undefined && !page.shared) return page;
    const own: Page = {
      words: page?.words.slice() ?? new Uint32Array(runs * 3),
      used: page?.used ?? 0,
      shared: false,
    };
    if (page === undefined) directory.used++;
    this.#totals.memoryBytes += pageOverhead + own.words.byteLength;
    directory.pages[slot] = own;
    return own;
  }

  #dropDirectory(index: number, replaced?: Visit): void {
    const directory = this.#directories[index];
    if (directory === undefined) return;
    if (directory.shared) {
      const { words } = directory.pages[0] as Page;
      replaced?.(index * directoryBlocks, directoryBlocks, words[1] as number, words[2] as number);
      this.#totals.blocks -= directoryBlocks;
      this.#totals.extents -= directoryPages;
    } else {
      for (let slot = 0; slot < directoryPages; slot++) this.#dropPage(directory, index, slot, replaced);
      this.#totals.memoryBytes -= directoryOverhead;
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
      this.#totals.blocks -= endOf(word) - startOf(word);
    }
    this.#totals.extents -= page.used;
    if (!page.shared) this.#totals.memoryBytes -= pageOverhead + page.words.byteLength;
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
      splice(this.#runs, page, base, start, stop, hole, 0, replaced);
      if (page.used === 0) this.#dropPage(directory, index, slot);
    }
    if (directory.used === 0) this.#dropDirectory(index);
  }
}

function checkedEnd(block: number, count: number): number {
  const end = block + count;
  if (!(block >= 0 && count >= 0 && end <= maxBlocks)) {
    throw new RangeError(`blocks ${block} to ${end} are not of a volume`);
  }
  return end;
}
