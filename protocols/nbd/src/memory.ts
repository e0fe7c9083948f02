import type { BlockDevice, BlockExtent, ReadResult, ZeroOptions } from "./device.ts";
import { NbdError } from "./errors.ts";
import type { BlockSizes } from "./handshake-codec.ts";

const pageBytes = 64 * 1024;

export interface MemoryDeviceOptions {
  sizeBytes: number;
  blockSizes?: Partial<BlockSizes>;
  readOnly?: boolean;
  /** How much may be stored before writes fail with ENOSPC; all of it, where not given. */
  capacityBytes?: number;
}

/** A sparse device in memory: for tests, and the yardstick of what the protocol itself costs. */
export class MemoryDevice implements BlockDevice {
  readonly blockSizes: BlockSizes;
  readonly readOnly: boolean;
  readonly multiConn = true;
  #sizeBytes: number;
  readonly #capacityBytes: number;
  readonly #pages = new Map<number, Buffer>();

  constructor(options: MemoryDeviceOptions) {
    this.#sizeBytes = options.sizeBytes;
    this.#capacityBytes = options.capacityBytes ?? Number.POSITIVE_INFINITY;
    this.blockSizes = { minimum: 1, preferred: 4096, maximum: 32 * 1024 * 1024, ...options.blockSizes };
    this.readOnly = options.readOnly ?? false;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** How much is stored, in whole pages. */
  get storedBytes(): number {
    return this.#pages.size * pageBytes;
  }

  resize(sizeBytes: number): void {
    if (sizeBytes < this.#sizeBytes) this.#free(sizeBytes, this.#sizeBytes - sizeBytes);
    this.#sizeBytes = sizeBytes;
  }

  read(offset: number, length: number): ReadResult {
    const first = this.#pages.get(Math.floor(offset / pageBytes));
    const at = offset % pageBytes;
    if (first !== undefined && at + length <= pageBytes) return first.subarray(at, at + length);
    const pieces: (Buffer | { zeroes: number })[] = [];
    this.#walk(offset, length, (page, from, to) => {
      const bytes = this.#pages.get(page);
      pieces.push(bytes === undefined ? { zeroes: to - from } : bytes.subarray(from, to));
    });
    return pieces;
  }

  write(offset: number, data: Buffer): void {
    let done = 0;
    this.#walk(offset, data.length, (page, from, to) => {
      const bytes = this.#allocate(page, offset + done);
      data.copy(bytes, from, done, done + to - from);
      done += to - from;
    });
  }

  flush(): void {}

  trim(offset: number, length: number): void {
    this.#free(offset, length);
  }

  writeZeroes(offset: number, length: number, { noHole, fast }: ZeroOptions): void {
    if (!noHole) {
      this.#free(offset, length);
      return;
    }
    if (fast) throw new NbdError("ENOTSUP", "zeroes that are stored take as long as data");
    this.#walk(offset, length, (page, from, to) => {
      this.#allocate(page, page * pageBytes + from).fill(0, from, to);
    });
  }

  cache(): void {}

  blockStatus(offset: number, length: number, { maxExtents }: { maxExtents: number }): BlockExtent[] {
    const extents: BlockExtent[] = [];
    for (let at = offset; at < offset + length; ) {
      const end = Math.min(offset + length, at - (at % pageBytes) + pageBytes);
      const hole = !this.#pages.has(Math.floor(at / pageBytes));
      const last = extents.at(-1);
      if (last?.hole === hole) last.length += end - at;
      else if (extents.length === maxExtents) break;
      else extents.push({ length: end - at, hole, zero: hole });
      at = end;
    }
    return extents;
  }

  #free(offset: number, length: number): void {
    const end = offset + length;
    const pages = Math.ceil(length / pageBytes) + 1;
    if (pages > this.#pages.size) {
      for (const page of this.#pages.keys()) this.#freeIn(page, offset, end);
    } else {
      const first = Math.floor(offset / pageBytes);
      for (let page = first; page * pageBytes < end; page += 1) this.#freeIn(page, offset, end);
    }
  }

  #freeIn(page: number, offset: number, end: number): void {
    const start = page * pageBytes;
    const from = Math.max(0, offset - start);
    const to = Math.min(pageBytes, end - start);
    if (from >= to) return;
    if (to - from === pageBytes) this.#pages.delete(page);
    else this.#pages.get(page)?.fill(0, from, to);
  }

  #allocate(page: number, offset: number): Buffer {
    let bytes = this.#pages.get(page);
    if (bytes === undefined) {
      if (this.storedBytes + pageBytes > this.#capacityBytes) {
        throw new NbdError("ENOSPC", "the memory device is full", { offset });
      }
      bytes = Buffer.alloc(pageBytes);
      this.#pages.set(page, bytes);
    }
    return bytes;
  }

  /** Calls with every page that a range touches. */
  #walk(offset: number, length: number, visit: (page: number, from: number, to: number) => void): void {
    for (let at = offset; at < offset + length; ) {
      const page = Math.floor(at / pageBytes);
      const from = at - page * pageBytes;
      const to = Math.min(pageBytes, offset + length - page * pageBytes);
      visit(page, from, to);
      at += to - from;
    }
  }
}
