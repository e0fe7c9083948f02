import { type ChunkRow, ChunkTable } from "./chunk-table.ts";
import { extentWords, MapDamaged, type MapObject, newMapObject, rowWords } from "./codec.ts";
import { ExtentMap, hole } from "./extent-map.ts";
import { pageBlocks } from "./extent-page.ts";

export interface MapDelta {
  version: number;
  /** Slots of chunks that nobody needs, ascending. */
  removed: readonly number[];
  /** New chunks, ascending by slot; their `birth` is the delta's version and `death` 0. */
  rows: readonly { slot: number; row: ChunkRow }[];
  /** block, blocks, slot or `hole`, ordinal, and so on: ascending and apart, a chunk's blocks once each. */
  extents: readonly number[];
}

export interface FreeableChunk {
  slot: number;
  /** Whether its object is the volume's own, to be deleted once no manifest names the row; else only the row goes. */
  own: boolean;
}

export interface CompactionRule {
  /** Chunks whose live blocks are at most this share of `fullBlocks`. */
  maxLiveRatio: number;
  fullBlocks: number;
  limit: number;
  snapshotVersions: readonly number[];
}

type Pause = () => Promise<void>;

/** Blocks of a page of the extent map, as a power of two. */
const pageShift = Math.log2(pageBlocks);
/** Extents that are looked at between two pauses. */
const slice = 8_000;

/**
 * What the store holds of a volume: block -> (chunk slot, ordinal), the chunks, and whose they are. It changes by
 * deltas only, so it is at any time what its base and deltas in the store say.
 */
export class DurableMap {
  readonly extents = new ExtentMap(1);
  readonly chunks = new ChunkTable();
  /** Volumes' ids; 0 is this volume. A row's `source` is an index of it. */
  readonly sources: string[];
  #version = 0;
  /** Slots whose live blocks went to 0 in the delta at work. */
  readonly #emptied = new Set<number>();

  constructor(volume: string) {
    this.sources = [volume];
  }

  /** The version of the last map object; 0 before the first. */
  get version(): number {
    return this.#version;
  }

  get memoryBytes(): number {
    return this.extents.memoryBytes + this.chunks.memoryBytes;
  }

  /**
   * From decoded objects, of this volume or (a clone's) of others, in the manifest's order; each is asked for
   * when the one before it was taken in, so that a large base need not stay in memory. `blocks`: the volume's size.
   * MapDamaged, with the place of the object in the list.
   */
  static async load(options: {
    volume: string;
    blocks: number;
    objects: Iterable<MapObject> | AsyncIterable<MapObject>;
    pause: Pause;
  }): Promise<DurableMap> {
    const map = new DurableMap(options.volume);
    let first = true;
    for await (const object of options.objects) {
      if (object.kind === "base" && !first) throw new MapDamaged("it is a base where a delta belongs");
      await map.#take(object, options.blocks, options.pause);
      first = false;
    }
    return map;
  }

  /** The index of a volume, which is added where it is new. */
  sourceIndex(volume: string): number {
    const index = this.sources.indexOf(volume);
    return index >= 0 ? index : this.sources.push(volume) - 1;
  }

  /** The delta's map object, for `encodeMapObject`. Its size follows the change. */
  deltaObject(delta: MapDelta): MapObject {
    const object = newMapObject("delta", delta.version, [...this.sources], {
      removed: delta.removed.length,
      rows: delta.rows.length,
      extents: delta.extents.length / extentWords,
    });
    object.removed.set(delta.removed);
    for (const [index, { slot, row }] of delta.rows.entries()) writeRow(object.rows, index, slot, row);
    object.extents.set(delta.extents);
    return object;
  }

  /**
   * Takes in a delta once its manifest is in the store. Chunks whose last live block goes die in this version; new
   * ones with none at once. RangeError or MapDamaged where it contradicts the map, which is then half changed.
   */
  apply(delta: MapDelta): void {
    this.#begin(delta.version);
    for (const slot of delta.removed) this.#removeRow(slot);
    for (const { slot, row } of delta.rows) this.#addRow(slot, row);
    this.#setExtents(delta.extents, 0, delta.extents.length, 2 ** 32);
    this.#end();
  }

  /** Dead chunks that no snapshot needs; rows of other volumes' chunks, as soon as they are dead. */
  freeable(snapshotVersions: readonly number[]): FreeableChunk[] {
    const free: FreeableChunk[] = [];
    for (const slot of this.chunks.slots()) {
      const death = this.chunks.death(slot);
      if (death === 0) continue;
      const own = this.chunks.source(slot) === 0;
      const birth = this.chunks.birth(slot);
      if (own && snapshotVersions.some((version) => birth <= version && version < death)) continue;
      free.push({ slot, own });
    }
    return free;
  }

  /** Live chunks of the volume that no snapshot holds, the emptiest first. */
  compactionCandidates(rule: CompactionRule): number[] {
    const newest = Math.max(0, ...rule.snapshotVersions);
    const most = rule.maxLiveRatio * rule.fullBlocks;
    const slots: number[] = [];
    for (const slot of this.chunks.slots()) {
      const live = this.chunks.live(slot);
      if (live === 0 || live > most || this.chunks.source(slot) !== 0) continue;
      if (newest >= this.chunks.birth(slot)) continue;
      slots.push(slot);
    }
    slots.sort((a, b) => this.chunks.live(a) - this.chunks.live(b) || a - b);
    return slots.slice(0, rule.limit);
  }

  /** The extents of those chunks, ascending by block, four numbers each as in a delta: one pass over the map. */
  async liveExtents(slots: Iterable<number>, pause: Pause): Promise<number[]> {
    const wanted = new Set(slots);
    const found: number[] = [];
    let missing = 0;
    for (const slot of wanted) missing += this.chunks.live(slot);
    await this.#walk(pause, (block, count, slot, ordinal) => {
      if (!wanted.has(slot)) return missing > 0;
      found.push(block, count, slot, ordinal);
      missing -= count;
      return missing > 0;
    });
    return found;
  }

  /** All of the map as a base of that version. The map may not change until it has settled. */
  async baseObject(version: number, pause: Pause): Promise<MapObject> {
    const object = newMapObject("base", version, [...this.sources], {
      removed: 0,
      rows: this.chunks.rows,
      extents: this.extents.extents,
    });
    let index = 0;
    for (const slot of this.chunks.slots()) {
      writeRow(object.rows, index++, slot, this.chunks.row(slot) as ChunkRow);
      if (index % slice === 0) await pause();
    }
    let at = 0;
    const { extents } = object;
    await this.#walk(pause, (block, count, slot, ordinal) => {
      extents[at] = block;
      extents[at + 1] = count;
      extents[at + 2] = slot;
      extents[at + 3] = ordinal;
      at += extentWords;
      return true;
    });
    return object;
  }

  /** Visits all runs in slices, until `visit` says false. */
  async #walk(
    pause: Pause,
    visit: (block: number, count: number, slot: number, ordinal: number) => boolean,
  ): Promise<void> {
    const sliceBlocks = 2 ** 16; // at most that many runs
    let more = true;
    let since = 0;
    for (let at = this.extents.firstMapped(0, 2 ** 32); more && at < 2 ** 32; ) {
      const end = Math.min(2 ** 32, (Math.floor(at / sliceBlocks) + 1) * sliceBlocks);
      this.extents.forRange(at, end - at, (block, count, slot, ordinal) => {
        since++;
        if (slot !== hole && more) more = visit(block, count, slot, ordinal);
      });
      at = this.extents.firstMapped(end, 2 ** 32 - end);
      if (since >= slice) {
        since = 0;
        await pause();
      }
    }
  }

  async #take(object: MapObject, blocks: number, pause: Pause): Promise<void> {
    this.#begin(object.version);
    const indexes = object.sources.map((volume) => this.sourceIndex(volume));
    for (const slot of object.removed) this.#removeRow(slot);
    for (let i = 0; i < object.rows.length; i += rowWords) {
      const { slot, row } = readRow(object.rows, i);
      row.source = indexes[row.source] as number;
      if (object.kind === "delta" && (row.death !== 0 || row.birth !== object.version)) {
        throw new MapDamaged(`chunk slot ${slot} was not born in this delta`);
      }
      this.#addRow(slot, row);
      if (i % (slice * rowWords) === 0 && i > 0) await pause();
    }
    for (let i = 0; i < object.extents.length; i += slice * extentWords) {
      if (i > 0) await pause();
      this.#setExtents(object.extents, i, Math.min(object.extents.length, i + slice * extentWords), blocks);
    }
    this.#end();
  }

  #begin(version: number): void {
    if (version <= this.#version) throw new MapDamaged(`version ${version} follows version ${this.#version}`);
    this.#version = version;
    this.#emptied.clear();
  }

  #removeRow(slot: number): void {
    if (!this.chunks.has(slot)) throw new MapDamaged(`it removes chunk slot ${slot}, which is free`);
    if (this.chunks.live(slot) > 0)
      throw new MapDamaged(`it removes chunk slot ${slot}, which has live blocks`);
    this.chunks.remove(slot);
  }

  #addRow(slot: number, row: ChunkRow): void {
    if (this.chunks.has(slot)) throw new MapDamaged(`it adds chunk slot ${slot}, which is taken`);
    this.chunks.add(row, slot);
    if (row.death === 0) this.#emptied.add(slot);
  }

  readonly #replaced = (_block: number, count: number, slot: number): void => {
    if (this.chunks.addLive(slot, -count) === 0) this.#emptied.add(slot);
  };

  #setExtents(extents: ArrayLike<number>, from: number, to: number, limit: number): void {
    let page = -1;
    for (let i = from; i < to; i += extentWords) {
      const block = extents[i] as number;
      const count = extents[i + 1] as number;
      const slot = extents[i + 2] as number;
      const ordinal = extents[i + 3] as number;
      if (slot === hole) {
        this.extents.remove(block, count, this.#replaced);
        continue;
      }
      if (block + count > limit)
        throw new MapDamaged(`block ${block + count - 1} is behind the volume's end`);
      if (block >>> pageShift !== page) {
        page = block >>> pageShift;
        this.extents.expect(block, runsInPage(extents, i));
      }
      const written = this.chunks.blocks(slot);
      if (written === 0) throw new MapDamaged(`block ${block} lies in chunk slot ${slot}, which is free`);
      if (ordinal + count > written)
        throw new MapDamaged(`block ${block} lies behind the end of chunk slot ${slot}`);
      if (this.chunks.death(slot) !== 0)
        throw new MapDamaged(`block ${block} lies in chunk slot ${slot}, which is dead`);
      this.extents.set(block, count, slot, ordinal, this.#replaced);
      if (this.chunks.addLive(slot, count) > written) {
        throw new MapDamaged(`chunk slot ${slot} holds blocks twice`);
      }
    }
  }

  #end(): void {
    for (const slot of this.#emptied) {
      if (this.chunks.has(slot) && this.chunks.live(slot) === 0) this.chunks.setDeath(slot, this.#version);
    }
    this.#emptied.clear();
  }
}

/** How many runs begin in the page of the one at `from`, with it. */
function runsInPage(extents: ArrayLike<number>, from: number): number {
  const page = (extents[from] as number) >>> pageShift;
  let runs = 0;
  for (let i = from; i < extents.length && (extents[i] as number) >>> pageShift === page; i += extentWords) {
    if (extents[i + 2] !== hole) runs++;
  }
  return runs;
}

export function writeRow(rows: Uint32Array, index: number, slot: number, row: ChunkRow): void {
  const { source, epoch, number, bytes, headerBytes, blocks, birth, death } = row;
  rows.set([slot, source, epoch, number, bytes, headerBytes, blocks, birth, death], index * rowWords);
}

export function readRow(rows: Uint32Array, at: number): { slot: number; row: ChunkRow } {
  return {
    slot: rows[at] as number,
    row: {
      source: rows[at + 1] as number,
      epoch: rows[at + 2] as number,
      number: rows[at + 3] as number,
      bytes: rows[at + 4] as number,
      headerBytes: rows[at + 5] as number,
      blocks: rows[at + 6] as number,
      birth: rows[at + 7] as number,
      death: rows[at + 8] as number,
    },
  };
}
