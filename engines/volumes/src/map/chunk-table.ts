/** A chunk that the map knows. `source` is an index of the map's list of volumes; 0 is the volume itself. */
export interface ChunkRow {
  source: number;
  epoch: number;
  number: number;
  /** Of the whole object. */
  bytes: number;
  headerBytes: number;
  /** How many it was written with: at least 1. */
  blocks: number;
  /** Map versions; death is 0 while it has live blocks. */
  birth: number;
  death: number;
}

/** Above 16 TiB of chunks four times over; it bounds what a hostile map makes us allocate. */
export const maxSlots = 2 ** 24;

const segmentRows = 64;
const width = 9;
const [sourceAt, epochAt, numberAt, bytesAt, headerBytesAt, blocksAt, birthAt, deathAt, liveAt] = [
  0, 1, 2, 3, 4, 5, 6, 7, 8,
] as const;

/** Chunks by slot, 36 bytes each, in segments of 64 rows; a row without blocks is free. */
export class ChunkTable {
  readonly #segments: (Uint32Array | undefined)[] = [];
  #rows = 0;
  #liveBlocks = 0;
  #ownChunks = 0;
  #ownBytes = 0;
  #ownBlocks = 0;
  /** No slot below this is free. */
  #lowestFree = 0;
  #memoryBytes = 256;

  get rows(): number {
    return this.#rows;
  }
  /** Blocks that the map points to. */
  get liveBlocks(): number {
    return this.#liveBlocks;
  }
  /** Of the volume's own chunks, the dead ones that snapshots need included. */
  get ownChunks(): number {
    return this.#ownChunks;
  }
  get ownBytes(): number {
    return this.#ownBytes;
  }
  get ownBlocks(): number {
    return this.#ownBlocks;
  }
  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  has(slot: number): boolean {
    return this.#word(slot, blocksAt) !== 0;
  }

  source(slot: number): number {
    return this.#word(slot, sourceAt);
  }
  blocks(slot: number): number {
    return this.#word(slot, blocksAt);
  }
  live(slot: number): number {
    return this.#word(slot, liveAt);
  }
  birth(slot: number): number {
    return this.#word(slot, birthAt);
  }
  death(slot: number): number {
    return this.#word(slot, deathAt);
  }

  /** Undefined where the slot is free. */
  row(slot: number): ChunkRow | undefined {
    if (!this.has(slot)) return undefined;
    return {
      source: this.#word(slot, sourceAt),
      epoch: this.#word(slot, epochAt),
      number: this.#word(slot, numberAt),
      bytes: this.#word(slot, bytesAt),
      headerBytes: this.#word(slot, headerBytesAt),
      blocks: this.#word(slot, blocksAt),
      birth: this.#word(slot, birthAt),
      death: this.#word(slot, deathAt),
    };
  }

  /** The `count` lowest slots that are free: what a delta gives to its new chunks. */
  freeSlots(count: number): number[] {
    const slots: number[] = [];
    for (let slot = this.#lowestFree; slots.length < count; slot++) {
      if (!this.has(slot)) slots.push(slot);
    }
    if (slots[0] !== undefined) this.#lowestFree = slots[0];
    return slots;
  }

  /** Into the lowest free slot, or the one that is given, which must be free; no block of it is live yet. */
  add(row: ChunkRow, slot: number = this.freeSlots(1)[0] as number): number {
    if (!(slot >= 0 && slot < maxSlots) || this.has(slot))
      throw new RangeError(`slot ${slot} cannot be taken`);
    if (!(row.blocks > 0)) throw new RangeError(`a chunk in slot ${slot} has no blocks`);
    const index = Math.floor(slot / segmentRows);
    while (this.#segments.length <= index) this.#segments.push(undefined);
    let segment = this.#segments[index];
    if (segment === undefined) {
      segment = this.#segments[index] = new Uint32Array(segmentRows * width);
      this.#memoryBytes += segment.byteLength + 128;
    }
    const at = (slot % segmentRows) * width;
    segment[at + sourceAt] = row.source;
    segment[at + epochAt] = row.epoch;
    segment[at + numberAt] = row.number;
    segment[at + bytesAt] = row.bytes;
    segment[at + headerBytesAt] = row.headerBytes;
    segment[at + blocksAt] = row.blocks;
    segment[at + birthAt] = row.birth;
    segment[at + deathAt] = row.death;
    segment[at + liveAt] = 0;
    this.#count(row, 1);
    return slot;
  }

  remove(slot: number): void {
    const row = this.row(slot);
    if (row === undefined) throw new RangeError(`no chunk is in slot ${slot}`);
    this.#liveBlocks -= this.live(slot);
    const segment = this.#segments[Math.floor(slot / segmentRows)] as Uint32Array;
    const at = (slot % segmentRows) * width;
    segment.fill(0, at, at + width);
    this.#count(row, -1);
    this.#lowestFree = Math.min(this.#lowestFree, slot);
  }

  /** Counts blocks that became live, or that are live no more where it is negative; what is live afterwards. */
  addLive(slot: number, blocks: number): number {
    const segment = this.#segments[Math.floor(slot / segmentRows)];
    if (segment === undefined) throw new RangeError(`no chunk is in slot ${slot}`);
    const at = (slot % segmentRows) * width + liveAt;
    const live = (segment[at] as number) + blocks;
    segment[at] = live;
    this.#liveBlocks += blocks;
    return live;
  }

  setDeath(slot: number, version: number): void {
    const segment = this.#segments[Math.floor(slot / segmentRows)];
    if (segment !== undefined) segment[(slot % segmentRows) * width + deathAt] = version;
  }

  /** The slots that are taken, ascending. */
  *slots(): Generator<number> {
    for (let index = 0; index < this.#segments.length; index++) {
      if (this.#segments[index] === undefined) continue;
      for (let slot = index * segmentRows; slot < (index + 1) * segmentRows; slot++) {
        if (this.has(slot)) yield slot;
      }
    }
  }

  #word(slot: number, at: number): number {
    return this.#segments[Math.floor(slot / segmentRows)]?.[(slot % segmentRows) * width + at] ?? 0;
  }

  #count(row: ChunkRow, sign: 1 | -1): void {
    this.#rows += sign;
    if (row.source !== 0) return;
    this.#ownChunks += sign;
    this.#ownBytes += sign * row.bytes;
    this.#ownBlocks += sign * row.blocks;
  }
}
