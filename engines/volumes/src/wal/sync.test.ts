import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Files } from "@skep/objects/files";
import type { Segment } from "./segment.ts";
import { SyncRounds } from "./sync.ts";

const enough = 1000;

describe("rounds of syncs", () => {
  // At each of the turns between a round's last fdatasync and the next round.
  for (let turns = 0; turns < 8; turns += 1) {
    it(`answer a flush after its own sync, with a write ${turns} turns after the one before`, async () => {
      const syncs: PromiseWithResolvers<void>[] = [];
      const datasync = () => {
        syncs.push(Promise.withResolvers());
        return syncs.at(-1)?.promise;
      };
      const segment = { use: (work: () => unknown) => work(), file: { datasync } } as unknown as Segment;
      const rounds = new SyncRounds({} as Files, "/wal", 0n, enough);
      rounds.written(segment, 1n, 1);
      const first = rounds.sync();
      rounds.written(segment, 2n, enough);
      let isFlushed = false;
      const second = rounds.sync().then(() => (isFlushed = true));
      syncs[0]?.resolve();
      for (let turn = 0; turn < turns; turn += 1) await undefined;
      rounds.written(segment, 3n, enough);
      await first;
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(syncs.length, 2);
      assert.equal(isFlushed, false);
      assert.equal(rounds.synced, 1n);
      syncs[1]?.resolve();
      await second;
      assert.ok(rounds.synced >= 2n);
    });
  }
});
