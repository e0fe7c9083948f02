import { describe, it } from "node:test";
import { killRounds } from "./testing/kill-run.ts";

describe("kill -9, two hundred times", () => {
  it("loses nothing that was acknowledged", async (t) => {
    const { acknowledged } = await killRounds(200);
    t.diagnostic(`${acknowledged} acknowledged changes`);
  });
});
