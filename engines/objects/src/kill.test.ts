import { describe, it } from "node:test";
import { killRounds } from "./testing/kill-run.ts";

describe("kill -9", () => {
  it("loses nothing that was acknowledged", async (t) => {
    const { acknowledged } = await killRounds(3);
    t.diagnostic(`${acknowledged} acknowledged changes`);
  });
});
