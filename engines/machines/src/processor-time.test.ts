import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { processorSeconds, type ThreadTime, threadTimes, wantedShare } from "./processor-time.ts";

const times = (all: Record<string, [ran: number, waited: number]>) =>
  new Map<string, ThreadTime>(
    Object.entries(all).map(([thread, [ran, waited]]) => [thread, { ran, waited }]),
  );

describe("what a process wants of the processors", () => {
  for (const [what, after, wanted] of [
    ["rests", [10.2, 5], 0.02],
    ["rests on a host that has others wait", [10.2, 9], 0.033],
    ["works", [20, 5], 1],
    ["would work, and hardly comes to it", [10.4, 14.6], 1],
    ["worked half of the time, and waited for as long", [13, 9], 0.5],
  ] as const) {
    it(`is ${wanted} of one where it ${what}`, () => {
      const share = wantedShare(times({ 1: [10, 5] }), times({ 1: [...after] }), 10);
      assert.equal(share.toFixed(3), wanted.toFixed(3));
    });
  }

  it("is the sum of its threads, also of new ones; of one that has ended nothing is known", () => {
    const share = wantedShare(times({ 1: [5, 0], 2: [5, 0] }), times({ 1: [10, 0], 3: [1, 0] }), 10);
    assert.equal(share.toFixed(3), "0.600");
  });

  it("is seen of a running process, and nothing of one that is gone", async () => {
    const before = await threadTimes(process.pid);
    for (const until = performance.now() + 200; performance.now() < until; ) Math.random();
    const after = await threadTimes(process.pid);
    assert.ok(wantedShare(before, after, 0.2) > 0.5);
    assert.ok((await processorSeconds(process.pid)) > 0);
    await assert.rejects(threadTimes(2 ** 22 + 1), { code: "ENOENT" });
  });
});
