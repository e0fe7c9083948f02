import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { lessPromised } from "./admission.ts";

const gib = 1024 ** 3;
const free = { shared: 4 * gib, host: 8 * gib };

describe("memory that can be promised", () => {
  it("is less by what guests have not touched yet: their own in /dev/shm, too, borrowed only of the host", () => {
    const own = { bytes: gib, borrowed: false };
    const borrowed = { bytes: 2 * gib, borrowed: true };
    assert.deepEqual(lessPromised(free, []), free);
    assert.deepEqual(lessPromised(free, [own]), { shared: 3 * gib, host: 7 * gib });
    assert.deepEqual(lessPromised(free, [borrowed]), { shared: 4 * gib, host: 6 * gib });
    assert.deepEqual(lessPromised(free, [own, borrowed]), { shared: 3 * gib, host: 5 * gib });
  });

  it("is never less than nothing", () => {
    assert.deepEqual(lessPromised(free, [{ bytes: 9 * gib, borrowed: false }]), { shared: 0, host: 0 });
  });
});
