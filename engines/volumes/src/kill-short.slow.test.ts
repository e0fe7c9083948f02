import { describe, it } from "node:test";
import { killRounds } from "./testing/kill-run.ts";

describe("kill -9 of the process that serves a volume", () => {
  for (const durability of ["local", "remote"] as const) {
    it(`loses nothing that was answered, with durability ${durability}`, async (t) => {
      t.diagnostic(JSON.stringify(await killRounds({ kills: 4, durability })));
    });
  }
});
