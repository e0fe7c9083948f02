import { describe, it } from "node:test";
import { killRounds } from "./storaged-kill.ts";

describe("kill -9 of storaged under load, two hundred times", () => {
  it("loses nothing that was acknowledged over HTTP, and leaves no halves", async (t) => {
    t.diagnostic(JSON.stringify(await killRounds(200)));
  });
});
