import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Later } from "./later.ts";

test("what is done later is told when it fails, and cancelled and waited for when its owner ends", async () => {
  const told: unknown[] = [];
  let ended = false;
  {
    await using later = new Later();
    const failed = Promise.withResolvers<void>();
    later.run(
      () => Promise.reject(new Error("no room")),
      (error) => {
        told.push((error as Error).message);
        failed.resolve();
      },
    );
    await failed.promise;
    later.run(
      async (signal) => {
        await sleep(60_000, undefined, { signal }).catch(() => undefined);
        await sleep(10);
        ended = true;
        throw new Error("it was cancelled");
      },
      (error) => told.push((error as Error).message),
    );
  }
  assert.ok(ended);
  assert.deepEqual(told, ["no room"]);
});
