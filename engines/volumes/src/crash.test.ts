import { describe, it } from "node:test";
import { simulate } from "./testing/simulate.ts";

// Thousands more: npm run test:crash -- --only volumes --seeds 10000
const seeds = Number(process.env.SKEP_CRASH_SEEDS ?? 300);

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
  it("has every byte that was answered, or flushed, or put into the store, and no other", async (t) => {
    await runs(1, seeds, (message) => t.diagnostic(message));
  });
});
