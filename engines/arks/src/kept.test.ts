import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { removeState } from "./commit.ts";
import { KeptMemory } from "./kept.ts";
import { newStateId } from "./paths.ts";

const bytes = 64 * 1024;
const digest = "d".repeat(64);

describe("memory that is kept after a suspend", () => {
  let directory: string; // a home, and a machine's place in tmpfs
  let ram: string;
  let into: string;
  let state: string;
  const keeps = (limits?: { bytes: number; ms: number }) =>
    new KeptMemory({ home: directory, log: { warn() {} }, ...(limits === undefined ? {} : { limits }) });
  const names = async () =>
    (await readdir("/dev/shm")).filter((name) => name.startsWith("skep-kept-") && name.endsWith(state));
  const where = async () => join("/dev/shm", (await names())[0] ?? "none");

  async function keep(kept = keeps(), id = state): Promise<void> {
    await writeFile(ram, Buffer.alloc(bytes, 7));
    assert.equal(await kept.begin(id, ram), true);
    await rm(ram); // as QEMU's end does
    await kept.finish(id, digest);
  }

  beforeEach(async () => {
    directory = await mkdtemp("/dev/shm/skep-kept-test-");
    [ram, into, state] = [join(directory, "ram"), join(directory, "into"), newStateId()];
  });
  afterEach(async () => {
    await keeps().dropAll();
    await rm(directory, { recursive: true });
  });

  it("is there once, for the state that was packed from it", async () => {
    await keep();
    assert.equal(await keeps().take(state, { digest, bytes, into }), true);
    assert.deepEqual(await readFile(into), Buffer.alloc(bytes, 7));
    assert.deepEqual(await names(), []);
    assert.equal(await keeps().take(state, { digest, bytes, into }), false);
  });

  it("is let go where it is not that, or is not whole", async () => {
    const wrongs = [
      async () => await truncate(join(await where(), "ram"), bytes - 1),
      async () => await rm(join(await where(), "record.json")),
      async () => await writeFile(join(await where(), "record.json"), "{"),
      async () => await rm(join(await where(), "ram")),
    ];
    for (const wrong of wrongs) {
      await keep();
      await wrong();
      assert.equal(await keeps().take(state, { digest, bytes, into }), false);
      assert.deepEqual(await names(), []);
    }
    await keep();
    assert.equal(await keeps().take(state, { digest: "e".repeat(64), bytes, into }), false);
    await keep();
    assert.equal(await keeps().take(state, { digest, bytes: 2 * bytes, into }), false);
    await assert.rejects(stat(into), { code: "ENOENT" });
  });

  it("goes with its state", async () => {
    await keep();
    await removeState(directory, state);
    assert.deepEqual(await names(), []);
  });

  it("goes when it is old, or too much", async () => {
    await keep();
    const old = new Date(Date.now() - 5000);
    await utimes(join(await where(), "record.json"), old, old);
    using young = keeps({ bytes: 10 * bytes, ms: 60_000 });
    await young.trim();
    assert.equal((await names()).length, 1);
    using strict = keeps({ bytes: 10 * bytes, ms: 4000 });
    await strict.trim();
    assert.deepEqual(await names(), []);
    const other = newStateId();
    using small = keeps({ bytes: bytes + 4096, ms: 60_000 });
    await keep(small);
    await utimes(join(await where(), "record.json"), old, old);
    await keep(small, other);
    assert.deepEqual(await names(), []);
    assert.equal(await small.take(other, { digest, bytes, into }), true);
    await writeFile(ram, Buffer.alloc(2 * bytes));
    assert.equal(await small.begin(state, ram), false);
  });

  it("goes at a start where no machine sleeps on it, or it was not finished", async () => {
    await keep();
    using kept = keeps();
    await kept.sweep((id) => id === state);
    assert.equal((await names()).length, 1);
    await kept.sweep(() => false);
    assert.deepEqual(await names(), []);
    await writeFile(ram, "half");
    assert.equal(await kept.begin(state, ram), true);
    await kept.sweep(() => true);
    assert.deepEqual(await names(), []);
  });
});
