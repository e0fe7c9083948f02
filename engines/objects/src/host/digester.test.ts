import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ThreadDigester } from "./digester.ts";

describe("ThreadDigester", () => {
  it("keeps no memory of many blobs for one that stands still", async () => {
    await using digester = new ThreadDigester();
    const pieces = Array.from({ length: 100 }, () => digester.takeMemory());
    const before = new Set(pieces);
    pieces.splice(1).forEach((piece) => {
      digester.giveMemory(piece);
    });
    const kept = Array.from({ length: 99 }, () => digester.takeMemory()).filter((piece) => before.has(piece));
    assert.ok(kept.length > 0 && kept.length < 10, `${kept.length} pieces`);
  });
});
