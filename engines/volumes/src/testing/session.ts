import assert from "node:assert/strict";
import type { OpenVolume, SnapshotInfo, VolumeStore } from "../types.ts";
import { joined } from "./data.ts";
import type { KnownSnapshot, KnownVolume } from "./known.ts";
import { type Change, type Loss, VolumeModel } from "./model.ts";
import { adoptClone, readAll } from "./verify.ts";
import { codeOf, type Host, type World } from "./world.ts";

const blockBytes = 4096;
/** What a volume may grow to. */
const mostBytes = 700 * blockBytes;

/** Refusals that clients of a volume may meet, whatever happens to the store and the disk. */
const always = [
  "ENOSPC",
  "EIO",
  "FOREIGN_FAILED",
  "ECONNRESET",
  "STORE_FULL",
  "SNAPSHOT_EXISTS",
  "SNAPSHOT_NEEDED",
  "SNAPSHOT_NOT_FOUND",
  "VOLUME_OPEN",
  "VOLUME_REVERTING",
  "VOLUME_SHRINK",
  "ABORT_ERR",
];

export type Outcome<T> = { value: T } | "refused" | "stopped";

/** Clients of one open volume; what they are told goes into its model. */
export class Session {
  readonly #world: World;
  readonly #host: Host;
  readonly #schedule: Host["schedule"];
  readonly #store: VolumeStore;
  readonly #device: OpenVolume;
  readonly volume: KnownVolume;
  /** All volumes there are: clones are added. */
  readonly #volumes: KnownVolume[];
  readonly refusals: Set<string>;
  readonly #isOnlyHost: boolean;

  constructor(
    world: World,
    host: Host,
    store: VolumeStore,
    device: OpenVolume,
    volume: KnownVolume,
    volumes: KnownVolume[],
    refusals: readonly string[] = [],
  ) {
    this.#world = world;
    this.#host = host;
    this.#schedule = host.schedule;
    this.#store = store;
    this.#device = device;
    this.volume = volume;
    this.#volumes = volumes;
    this.refusals = new Set([...always, ...refusals]);
    this.#isOnlyHost = refusals.length === 0;
  }

  get device(): OpenVolume {
    return this.#device;
  }

  /** One client: some operations, one after the other. */
  async client(count: number): Promise<void> {
    for (let i = 0; i < count && !this.#schedule.hasCrashed; i += 1) {
      await this.#operation();
      if (this.#world.random.chance(0.3)) await this.#schedule.turn();
    }
  }

  #operation(): Promise<unknown> {
    const { random } = this.#world;
    const dice = random.below(100);
    if (dice < 43) return this.write();
    if (dice < 59) return this.read();
    if (dice < 68) return this.flush();
    if (dice < 74) return this.zero();
    if (dice < 78) return this.trim();
    if (dice < 81) return this.drain();
    if (dice < 84) return this.snapshot();
    if (dice < 87) return this.mark();
    if (dice < 89) return this.removeSnapshot();
    if (dice < 91) return this.clone();
    if (dice < 94) return this.revert();
    if (dice < 95) return this.blockStatus();
    if (dice < 97) return this.collectGarbage();
    if (dice < 98) return this.resize();
    if (dice < 99) return this.change();
    return this.openAgain();
  }

  async attempt<T>(work: () => T | Promise<T>): Promise<Outcome<T>> {
    try {
      const value = await work();
      // Once the machine has stopped nobody learns of an answer.
      return this.#schedule.hasCrashed ? "stopped" : { value };
    } catch (error) {
      if (error instanceof assert.AssertionError) throw error;
      if (this.#schedule.hasCrashed) return "stopped";
      if (this.refusals.has(codeOf(error))) return "refused";
      throw error;
    }
  }

  #region(): { offset: number; length: number } {
    const { random } = this.#world;
    const { sizeBytes } = this.volume.model;
    const blocks = sizeBytes / blockBytes;
    const near = random.chance(0.5) ? Math.min(blocks, 12) : blocks;
    const dice = random.below(10);
    let offset = random.below(near) * blockBytes;
    let length: number;
    if (dice < 4) length = (1 + random.below(4)) * blockBytes;
    else if (dice < 5) length = (1 + random.below(48)) * blockBytes;
    else {
      offset += random.below(blockBytes);
      length = 1 + random.below(dice < 8 ? blockBytes : 5 * blockBytes);
    }
    return { offset, length: Math.min(length, sizeBytes - offset) };
  }

  /** What a flush that is asked for and answered now is good for. */
  #flushed(before: string): Loss {
    return before === "remote" && this.#device.info().durability === "remote" ? "disk" : "power";
  }

  async #change(
    changes: Change[],
    fua: boolean,
    work: () => void | Promise<void>,
    vague: readonly Change[] = [],
  ): Promise<void> {
    const { durability } = this.#device.info();
    const outcome = await this.attempt(work);
    if (outcome === "stopped") return;
    const survives = outcome === "refused" ? "nothing" : fua ? this.#flushed(durability) : "process";
    for (const change of changes) {
      this.volume.model.end(change, vague.includes(change) ? "nothing" : survives);
    }
  }

  async write(): Promise<void> {
    const { random, data } = this.#world;
    const { offset, length } = this.#region();
    const fua = random.chance(0.1);
    const bytes = data.make(length);
    const lent = Buffer.from(bytes);
    const change = this.volume.model.begin(offset, length, bytes);
    await this.#change([change], fua, () => this.#device.write(offset, lent, { fua }));
    // Its memory is used for another request.
    if (!this.#schedule.hasCrashed) lent.fill(0xdb);
  }

  async zero(): Promise<void> {
    const { random } = this.#world;
    const { offset, length } = this.#region();
    const fua = random.chance(0.1);
    const noHole = random.chance(0.3);
    const change = this.volume.model.begin(offset, length);
    await this.#change([change], fua, () =>
      this.#device.writeZeroes?.(offset, length, { fua, noHole, fast: false }),
    );
  }

  /** Whole blocks become zeroes; what is there of others may stay. */
  async trim(): Promise<void> {
    const { random } = this.#world;
    const { sizeBytes } = this.volume.model;
    const { offset, length } = random.chance(0.05) ? { offset: 0, length: sizeBytes } : this.#region();
    const fua = random.chance(0.1);
    const end = offset + length;
    const first = Math.min(Math.ceil(offset / blockBytes) * blockBytes, end);
    const last = Math.max(Math.floor(end / blockBytes) * blockBytes, first);
    const { model } = this.volume;
    const edges: Change[] = [];
    const inner: Change[] = [];
    if (first > offset) edges.push(model.begin(offset, first - offset));
    if (last > first) inner.push(model.begin(first, last - first));
    if (end > last) edges.push(model.begin(last, end - last));
    await this.#change([...edges, ...inner], fua, () => this.#device.trim?.(offset, length, { fua }), edges);
  }

  async read(): Promise<void> {
    const { random, time } = this.#world;
    const { offset, length } = this.#region();
    const since = time.next();
    const outcome = await this.attempt(async () => {
      const result = await this.#device.read(offset, length, { signal: new AbortController().signal });
      // The bytes go out later: nobody may use their memory for something else meanwhile.
      for (let turns = random.below(4); turns > 0; turns -= 1) await this.#schedule.turn();
      return joined(result);
    });
    if (typeof outcome === "string") return;
    const seen = outcome.value;
    assert.equal(seen.length, length, "the length of what was read");
    const why = this.volume.model.refute(seen, offset, since);
    assert.equal(why, undefined, `a reader of ${this.volume.id}: ${why}`);
  }

  async flush(): Promise<void> {
    const begun = this.#world.time.next();
    const { durability } = this.#device.info();
    const outcome = await this.attempt(() => this.#device.flush());
    if (typeof outcome !== "string") this.volume.model.secure(begun, this.#flushed(durability));
  }

  async drain(): Promise<void> {
    const begun = this.#world.time.next();
    const abort = new AbortController();
    if (this.#world.random.chance(0.1)) {
      const turns = this.#world.random.below(30);
      void this.#after(turns, () => abort.abort());
    }
    const outcome = await this.attempt(() => this.#device.drain({ signal: abort.signal }));
    if (typeof outcome !== "string") this.volume.model.secure(begun, "disk");
  }

  async #after(turns: number, work: () => void): Promise<void> {
    for (let left = turns; left > 0; left -= 1) await this.#schedule.turn();
    work();
  }

  async snapshot(): Promise<void> {
    const { time, random } = this.#world;
    const name = `${random.pick(["nightly", "before", "after"])}-${time.next()}`;
    const known: KnownSnapshot = {
      id: undefined,
      name,
      of: this.volume,
      taken: { from: time.next(), to: Number.POSITIVE_INFINITY },
      seen: undefined,
      mayBeGone: false,
    };
    await this.#known(known, () => this.#device.snapshot({ name }));
  }

  /** Its instant is that of the call, whenever it is completed; one that is not completed vanishes. */
  async mark(): Promise<void> {
    const { time, random } = this.#world;
    const name = `mark-${time.next()}`;
    const from = time.next();
    const made = await this.attempt(() => ({ mark: this.#device.mark({ name }), to: time.next() }));
    if (typeof made === "string") return;
    const { mark, to } = made.value;
    for (let turns = random.below(60); turns > 0; turns -= 1) await this.#schedule.turn();
    if (random.chance(0.3)) {
      if (random.chance(0.7)) mark.abandon();
      return;
    }
    const taken = { from, to };
    const known = { id: undefined, name, of: this.volume, taken, seen: undefined, mayBeGone: false };
    await this.#known(known, () => mark.complete());
  }

  async #known(known: KnownSnapshot, work: () => Promise<SnapshotInfo>): Promise<void> {
    this.volume.snapshots.push(known);
    const outcome = await this.attempt(work);
    if (outcome === "stopped") return;
    known.taken.to = Math.min(known.taken.to, this.#world.time.next());
    // As with a write: where it is refused it may have been taken, and nobody was told.
    if (outcome === "refused") return;
    known.id = outcome.value.id;
    assert.equal(outcome.value.name, known.name);
    this.volume.model.secure(known.taken.from, "disk");
  }

  /** To one whose bytes are known: for the model it is a write of the whole volume. */
  async revert(): Promise<void> {
    const { random, time } = this.#world;
    if (this.#isOnlyHost && random.chance(0.5)) await this.#look();
    const known = random.pick(this.volume.snapshots.filter(({ id, seen }) => id !== undefined && seen));
    if (known?.id === undefined || known.seen === undefined) return;
    const { id, seen } = known;
    const { model } = this.volume;
    const begun = time.next();
    const changes = [model.begin(0, seen.length, seen), model.begin(seen.length, mostBytes - seen.length)];
    const outcome = await this.attempt(() => this.#device.revert(id));
    if (outcome === "stopped") return;
    for (const change of changes) model.end(change, outcome === "refused" ? "nothing" : "disk");
    if (outcome !== "refused") model.secure(begun, "disk");
  }

  /** At a snapshot of it that nobody has seen, by a clone. */
  async #look(): Promise<void> {
    await this.clone();
    const clone = this.#volumes.find((one) => {
      const isUnseen = one.source?.seen === undefined && one.model.sizeBytes === 0;
      return one.isCertain && one.source?.of === this.volume && isUnseen;
    });
    if (clone === undefined) return;
    await this.attempt(async () => {
      const device = await this.#store.open(clone.id);
      try {
        adoptClone(this.#world, clone, await readAll(this.#world, device));
      } finally {
        await device.close({ drain: this.#world.random.chance(0.5) });
      }
    });
  }

  async removeSnapshot(): Promise<void> {
    const known = this.#world.random.pick(this.volume.snapshots.filter((one) => one.id !== undefined));
    if (known?.id === undefined) return;
    const { id } = known;
    const needed = this.#volumes.some((one) => one.source === known && one.isCertain);
    known.mayBeGone = true;
    const outcome = await this.attempt(() => this.#device.removeSnapshot(id));
    if (typeof outcome === "string") return;
    assert.ok(!needed, `a snapshot that a clone needs was removed: ${id}`);
    const at = this.volume.snapshots.indexOf(known);
    if (at >= 0) this.volume.snapshots.splice(at, 1);
  }

  async clone(): Promise<void> {
    const known = this.#world.random.pick(this.volume.snapshots.filter((one) => one.id !== undefined));
    if (known?.id === undefined || this.#volumes.length > 3) return;
    const id = this.#world.volumeId();
    const clone: KnownVolume = {
      id,
      model: new VolumeModel(this.#world.time, 0),
      snapshots: [],
      source: known,
      sizes: new Set(),
      isCertain: false,
    };
    this.#volumes.push(clone);
    const source = { volume: this.volume.id, snapshot: known.id };
    const { objBlockBytes } = this.#world.settings;
    const outcome = await this.attempt(() => this.#store.clone(source, { id, objBlockBytes }));
    if (typeof outcome === "string") return;
    clone.isCertain = true;
  }

  async blockStatus(): Promise<void> {
    const { offset, length } = this.#region();
    const since = this.#world.time.next();
    const outcome = await this.attempt(() =>
      this.#device.blockStatus?.(offset, length, { maxExtents: 8, signal: new AbortController().signal }),
    );
    if (typeof outcome === "string" || outcome.value === undefined) return;
    assert.ok(outcome.value.length > 0, "at least one extent");
    let at = offset;
    for (const extent of outcome.value) {
      assert.ok(extent.length > 0, "no empty extent");
      const end = Math.min(at + extent.length, offset + length);
      if (extent.zero && end > at) {
        const why = this.volume.model.refute(Buffer.alloc(end - at), at, since);
        assert.equal(why, undefined, `a hole of ${this.volume.id}: ${why}`);
      }
      at = end;
    }
  }

  async collectGarbage(): Promise<void> {
    await this.attempt(() => this.#device.collectGarbage());
  }

  async resize(): Promise<void> {
    const { volume } = this;
    const { random } = this.#world;
    const before = volume.model.sizeBytes;
    const sizeBytes = Math.min(before + random.below(40) * blockBytes, mostBytes);
    volume.sizes.add(sizeBytes);
    const outcome = await this.attempt(() => this.#device.resize(sizeBytes));
    if (typeof outcome !== "string") volume.model.sizeBytes = Math.max(volume.model.sizeBytes, sizeBytes);
  }

  async change(): Promise<void> {
    const { random } = this.#world;
    const compression = random.pick(["none", "zstd"] as const);
    const durability = random.pick(["local", "remote"] as const);
    await this.attempt(() => this.#device.change(random.chance(0.5) ? { compression } : { durability }));
  }

  async openAgain(): Promise<void> {
    const outcome = await this.attempt(() => this.#store.open(this.volume.id));
    assert.ok(typeof outcome === "string", "a volume was opened twice");
  }

  toString(): string {
    return `${this.volume.id} on ${this.#host.name}`;
  }
}
