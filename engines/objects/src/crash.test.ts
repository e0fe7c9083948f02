import { describe, it } from "node:test";
import { CrashRun } from "./testing/crash-run.ts";

// Thousands more: npm run test:crash -- --only objects --seeds 10000
const seeds = Number(process.env.SKEP_CRASH_SEEDS ?? 120);

describe("after a crash or a power loss", () => {
  it("each key has the last acknowledged value or one tried later, and the store is in order", async (t) => {
    for (let seed = 1; seed <= seeds; seed += 1) {
      try {
        await new CrashRun(seed).run();
      } catch (error) {
        t.diagnostic(`once more: npm run test:crash -- --only objects --seed ${seed}`);
        throw error;
      }
    }
  });
});
