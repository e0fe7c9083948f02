import { describe, it } from "node:test";
import { simulate } from "./testing/simulate.ts";

// Thousands more: npm run test:crash -- --only volumes --seeds 10000
const seeds = Number(process.env.SKEP_CRASH_SEEDS ?? 50);
const seedsOfTest = 25;

async function runs(from: number, to: number, say: (message: string) => void): Promise<void> {
  for (let seed = from; seed <= to; seed += 1) {
    try {
      await simulate(seed);
    } catch (error) {
      say(`once more: npm run test:crash -- --only volumes --seed ${seed}`);
      throw error;
    }
  }
}

describe("a volume whose host crashes, loses its power or its disk, or loses it to another host", () => {
  for (let from = 1; from <= seeds; from += seedsOfTest) {
    const to = Math.min(seeds, from + seedsOfTest - 1);
    it(`has every byte that was answered, flushed, or put into the store, and no other: ${from} to ${to}`, async (t) => {
      await runs(from, to, (message) => t.diagnostic(message));
    });
  }
});
