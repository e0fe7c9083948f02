import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { describe, it } from "node:test";
import { Random, Schedule, SimulatedFiles } from "@skep/objects/simulation";
import { Pace } from "../pace.ts";
import { inspectWal } from "./inspect.ts";
import type { ReplayEntry } from "./scan.ts";
import { Wal, type WalEntry } from "./wal.ts";

const seeds = Number(process.env.SKEP_CRASH_SEEDS ?? 100);
const blocks = 12;
const directory = "/v/wal";
const key = {
  segmentKey: (salt: bigint, number: number) =>
    createSecretKey(Buffer.alloc(32, Number(salt & 0xffn) ^ number)),
};

/** One write of a block. `value` 0: zeroes. */
interface Version {
  value: number;
  isAnswered: boolean;
}

/** A block as its writers know it, in the order of their calls. */
class Block {
  versions: Version[] = [{ value: 0, isAnswered: true }];
  /** The first version that a power loss may show. */
  safe = 0;

  get answered(): number {
    return this.versions.findLastIndex(({ isAnswered }) => isAnswered);
  }

  /** What it may hold after a crash. */
  allowed(isPowerLost: boolean): number[] {
    return this.versions.slice(isPowerLost ? this.safe : this.answered).map(({ value }) => value);
  }

  /** After a crash, what it holds is all that it ever was. */
  is(value: number): void {
    this.versions = [{ value, isAnswered: true }];
    this.safe = 0;
  }
}

type Place = { segment: number; position: number } | number;

/** A volume in little: blocks, a log, and what a drain has put into a store that loses nothing. */
class Scene {
  readonly random: Random;
  readonly files: SimulatedFiles;
  readonly isEncrypted: boolean;
  readonly blocks = Array.from({ length: blocks }, () => new Block());
  schedule: Schedule;
  /** The manifest and the map. */
  store = { firstSegment: 1, sequence: 0n, values: new Array<number>(blocks).fill(0) };
  /** Where each block is: in the log, or a value of the store. */
  overlay: Place[] = [];
  lastValue = 0;
  hasLostPower = false;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.schedule = new Schedule(this.random, Number.POSITIVE_INFINITY);
    this.files = new SimulatedFiles(this.random, this.schedule);
    this.isEncrypted = this.random.chance(0.3);
  }

  open(): Promise<Wal> {
    this.overlay = [...this.store.values];
    let time = 0;
    return Wal.open({
      files: this.files,
      directory,
      volume: "vol-00000000000000001",
      word: 7n,
      epoch: 1,
      firstSegment: this.store.firstSegment,
      sequence: this.store.sequence,
      key: this.isEncrypted ? key : null,
      segmentBytes: 30_000,
      random: (count) => this.random.bytes(count),
      pace: new Pace(() => (time += this.random.chance(0.1) ? 5e6 : 1e4)),
      replay: (entry) => this.#place(entry),
    });
  }

  #place({ block, count, segment, position, zeroes }: ReplayEntry): void {
    const step = this.isEncrypted ? 4144 : 4128;
    for (let i = 0; i < count; i += 1) {
      this.overlay[block + i] = zeroes ? 0 : { segment, position: position + i * step };
    }
  }

  async value(wal: Wal, place: Place): Promise<number> {
    if (typeof place === "number") return place;
    const [data] = await wal.read(place.segment, place.position, 1);
    const bytes = Buffer.from(data as Uint8Array);
    const value = bytes.readUInt32LE();
    assert.ok(bytes.equals(Buffer.alloc(4096).fill(filling(value))), "a block is whole");
    return value;
  }

  #nextValue(): number {
    this.lastValue += 1;
    return this.lastValue;
  }

  async write(wal: Wal): Promise<void> {
    const { random } = this;
    const writes = Array.from({ length: 1 + random.below(3) }, () => {
      const block = random.below(blocks - 3);
      const count = 1 + random.below(3);
      const value = random.chance(0.2) ? 0 : this.#nextValue();
      const data = Buffer.alloc(count * 4096).fill(filling(value));
      const entry: WalEntry = value === 0 ? { block, zeroes: count } : { block, data };
      const versions = this.blocks.slice(block, block + count).map(({ versions }) => {
        const version = { value, isAnswered: false };
        versions.push(version);
        return version;
      });
      return { entry, block, count, value, versions };
    });
    const placed = wal.append(writes.map(({ entry }) => entry));
    const note = (places: { segment: number; position: number }[]) => {
      for (const [index, { block, count, value, versions }] of writes.entries()) {
        this.#place({ block, count, zeroes: value === 0, ...(places[index] as (typeof places)[0]) });
        for (const version of versions) version.isAnswered = true;
      }
    };
    if (Array.isArray(placed)) note(placed);
    else await placed.then(note);
  }

  async sync(wal: Wal): Promise<void> {
    const answered = this.blocks.map((block) => block.answered);
    await wal.sync();
    for (const [index, block] of this.blocks.entries()) {
      block.safe = Math.max(block.safe, answered[index] as number);
    }
  }

  async drain(wal: Wal): Promise<void> {
    const upTo = wal.seal();
    const sequence = wal.sealedSequence;
    const captured = [...this.overlay];
    const answered = this.blocks.map((block) => block.answered);
    const values: number[] = [];
    for (const place of captured) {
      await this.schedule.turn();
      values.push(await this.value(wal, place));
    }
    if (this.schedule.hasCrashed) return;
    this.store = { firstSegment: upTo + 1, sequence, values };
    for (const [index, block] of this.blocks.entries()) {
      block.safe = Math.max(block.safe, answered[index] as number);
      const place = this.overlay[index] as Place;
      if (typeof place !== "number" && place.segment <= upTo) this.overlay[index] = values[index] as number;
    }
    await wal.remove(upTo);
  }

  /** Reads are of what was last answered, also while segments are removed. */
  async read(wal: Wal): Promise<void> {
    const index = this.random.below(blocks);
    const block = this.blocks[index] as Block;
    const expected = block.versions[block.answered]?.value;
    assert.equal(await this.value(wal, this.overlay[index] as Place), expected);
  }

  async client(wal: Wal, drains: boolean): Promise<void> {
    for (let i = 0; i < 20; i += 1) {
      const what = this.random.next();
      try {
        if (what < 0.15) await this.sync(wal);
        else if (what < 0.3) await this.read(wal);
        else if (what < 0.4 && drains) await this.drain(wal);
        else await this.write(wal);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code === "EIO" && this.files.syncFailureProbability > 0) return;
        if (code !== "ENOSPC") throw error;
      }
    }
  }

  async live(): Promise<void> {
    const wal = await this.open();
    assert.deepEqual(
      wal.gaps.filter(({ wasSynced }) => wasSynced),
      [],
      "nothing synced is missing",
    );
    this.files.fullProbability = this.random.chance(0.3) ? 0.1 : 0;
    this.files.syncFailureProbability = this.random.chance(0.2) ? 0.2 : 0;
    const clients = [true, false, false].map((drains) => this.client(wal, drains));
    // All of them: none may go on when the machine starts again.
    await Promise.allSettled(clients);
    await Promise.all(clients);
  }

  async restart(steps: number, work: () => Promise<unknown>): Promise<void> {
    this.schedule = new Schedule(this.random, steps);
    this.files.restart(this.schedule);
    let failure: unknown;
    const done = work().catch((error: unknown) => {
      if (!this.schedule.hasCrashed) failure = error;
    });
    await this.schedule.run(done);
    this.files.fullProbability = 0;
    this.files.syncFailureProbability = 0;
    if (failure !== undefined) throw failure;
  }

  async verify(isPowerLost: boolean): Promise<void> {
    const wal = await this.open();
    for (const [index, block] of this.blocks.entries()) {
      const found = await this.value(wal, this.overlay[index] as Place);
      const allowed = block.allowed(isPowerLost);
      assert.ok(allowed.includes(found), `block ${index} is ${found}, not one of ${allowed}`);
      block.is(found);
    }
    assert.deepEqual(
      wal.gaps.filter(({ wasSynced }) => wasSynced),
      [],
      "nothing synced is missing",
    );
    if (!this.hasLostPower) assert.deepEqual(wal.gaps, [], "only a power loss makes gaps");
    const reports = await inspectWal({ files: this.files, directory, sequence: this.store.sequence });
    assert.deepEqual(
      reports.flatMap(({ gaps }) => gaps),
      wal.gaps,
    );
    await wal.close();
  }
}

function filling(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** One seed: clients at work until the machine stops, three times; then every block is what it may be. */
async function run(seed: number): Promise<void> {
  const scene = new Scene(seed);
  for (let round = 0; round < 4; round += 1) {
    await scene.restart(5 + scene.random.below(250), () => scene.live());
    const isPowerLost = scene.random.chance(0.5);
    if (isPowerLost) {
      scene.files.losePower();
      scene.hasLostPower = true;
    }
    // Opening, too, may be where the machine stops.
    if (scene.random.chance(0.3)) await scene.restart(scene.random.below(20), () => scene.open());
    await scene.restart(Number.POSITIVE_INFINITY, () => scene.verify(isPowerLost));
  }
}

describe("the write-ahead log", () => {
  it("has all that was answered after a kill, and all that was synced after a power loss", async () => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      await run(seed).catch((error: unknown) => {
        throw new Error(`seed ${seed}`, { cause: error });
      });
    }
  });
});
