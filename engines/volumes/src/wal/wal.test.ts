import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Random, Schedule, SimulatedFiles } from "@skep/objects/simulation";
import { Pace } from "../pace.ts";
import { Wal, type WalEntry } from "./wal.ts";

const seeds = Number(process.env.SKEP_CRASH_SEEDS ?? 150);
const blocks = 12;
const key = { segmentKey: (salt: bigint, number: number) => Buffer.alloc(32, Number(salt & 0xffn) ^ number) };

/** One seed: appends, syncs and seals until the machine stops; then every block is old or new as it may be. */
async function run(seed: number): Promise<void> {
  const random = new Random(seed);
  let schedule = new Schedule(random, Number.POSITIVE_INFINITY);
  const files = new SimulatedFiles(random, schedule);
  const encrypted = random.chance(0.3);
  /** Of each block: what it may hold, in the order of its writes. */
  const allowed = Array.from({ length: blocks }, () => [0]);
  let value = 0;
  let latest = Array.from({ length: blocks }, () => ({ segment: -1, position: 0, zeroes: true }));
  const open = async () => {
    latest = latest.map(() => ({ segment: -1, position: 0, zeroes: true }));
    let time = 0;
    return Wal.open({
      files,
      directory: "/v/wal",
      volume: "vol-00000000000000001",
      word: 7n,
      epoch: 1,
      firstSegment: 1,
      key: encrypted ? key : null,
      segmentBytes: 30_000,
      random: (count) => random.bytes(count),
      pace: new Pace(() => (time += random.chance(0.1) ? 5e6 : 1e4)),
      replay: ({ block, count, segment, position, zeroes }) => {
        const step = encrypted ? 4144 : 4128;
        for (let i = 0; i < count; i += 1) {
          latest[block + i] = { segment, position: position + (zeroes ? 0 : i * step), zeroes };
        }
      },
    });
  };
  for (let round = 0; round < 3; round += 1) {
    schedule = new Schedule(random, 5 + random.below(120));
    files.restart(schedule);
    const live = (async () => {
      const wal = await open();
      files.fullProbability = random.chance(0.3) ? 0.1 : 0;
      const client = async () => {
        for (let i = 0; i < 20; i += 1) {
          if (random.chance(0.2)) {
            const before = allowed.map((values) => values.at(-1) as number);
            const lengths = allowed.map((values) => values.length);
            await wal.sync();
            for (const [block, values] of allowed.entries()) {
              // What was there when the sync began, or anything later.
              allowed[block] = [before[block] as number, ...values.slice(lengths[block])];
            }
            continue;
          }
          if (random.chance(0.1)) wal.seal();
          const block = random.below(blocks - 3);
          const count = 1 + random.below(3);
          value += 1;
          const mine = random.chance(0.2) ? 0 : value;
          const entry: WalEntry =
            mine === 0 ? { block, zeroes: count } : { block, data: Buffer.alloc(count * 4096, mine) };
          for (let at = block; at < block + count; at += 1) allowed[at]?.push(mine);
          try {
            await wal.append([entry]);
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
            // It may be there until the next success or sync, and is not what the latter promises.
            for (let at = block; at < block + count; at += 1)
              allowed[at]?.splice(-2, 0, allowed[at]?.pop() ?? 0);
          }
        }
      };
      await client();
    })();
    let failure: unknown;
    live.catch((error: unknown) => {
      if (!schedule.hasCrashed) failure = error;
    });
    await schedule.run(live);
    if (failure !== undefined) throw failure;
    files.fullProbability = 0;
    if (random.chance(0.5)) files.losePower();
    schedule = new Schedule(random, Number.POSITIVE_INFINITY);
    files.restart(schedule);
    const check = (async () => {
      const wal = await open();
      for (const [block, { segment, position, zeroes }] of latest.entries()) {
        const [data] = zeroes ? [Buffer.alloc(4096)] : await wal.read(segment, position, 1);
        const found = data?.[0] as number;
        assert.ok(
          data?.every((byte) => byte === found),
          "a block is whole",
        );
        assert.ok(
          allowed[block]?.some((one) => (one & 0xff) === found),
          `seed ${seed}: block ${block} is ${found}, not one of ${allowed[block]}`,
        );
        allowed[block] = [found];
      }
      await wal.close();
    })();
    check.catch(() => undefined);
    await schedule.run(check);
    await check;
  }
}

describe("the write-ahead log", () => {
  it("has every synced block after a crash, and each later one old or new", async () => {
    for (let seed = 1; seed <= seeds; seed += 1) await run(seed);
  });
});
