import assert from "node:assert/strict";
import { rm, truncate } from "node:fs/promises";
import { suite, type TestContext, test } from "node:test";
import { diagnoseStates } from "./doctor.ts";
import { readManifest } from "./manifest.ts";
import { statePaths } from "./paths.ts";
import { damageFile, makeState } from "./testing.ts";
import type { HostRecord } from "./types.ts";

type Diagnosed = Parameters<typeof diagnoseStates>[0];

/** A suspended machine "web", and what `doctor` says of it. */
async function suspended(t: TestContext) {
  const { home, directory, manifest } = await makeState(t);
  const { digest } = await readManifest(directory);
  const diagnose = (change: Partial<Diagnosed> = {}) =>
    diagnoseStates({
      home,
      states: [{ name: "web", state: manifest.id, digest }],
      here: async (_named, saved) => saved,
      thorough: false,
      ...change,
    });
  return { directory, diagnose, id: manifest.id, digest };
}

suite("what doctor says of suspended machines", () => {
  test("is nothing where there are none, and one line where all is well", async (t) => {
    const { diagnose } = await suspended(t);
    assert.deepEqual(await diagnose({ states: [] }), []);
    const [check, ...more] = await diagnose({ thorough: true });
    assert.deepEqual([check?.name, check?.status, more.length], ["states", "ok", 0]);
    assert.match(check?.detail ?? "", /^1 suspended, with .* stored$/);
  });

  test("is the difference where QEMU is another one, with the way out", async (t) => {
    const { diagnose } = await suspended(t);
    const here = async (_named: unknown, saved: HostRecord) => ({ ...saved, qemu: "8.2.0" });
    const [check, ...more] = await diagnose({ here });
    assert.deepEqual([check?.name, check?.status, more.length], ["state of web", "warning", 0]);
    assert.match(check?.detail ?? "", /7\.2\.22.*8\.2\.0/);
    assert.match(check?.fix ?? "", /skep resume web --cold$/);
  });

  for (const file of ["manifest", "index", "pack", "device"] as const) {
    test(`is the damage where its ${file} is missing or cut off`, async (t) => {
      const { diagnose, directory } = await suspended(t);
      const path = statePaths(directory)[file];
      await truncate(path, 10);
      const [cut] = await diagnose();
      assert.equal(cut?.status, "failed");
      await rm(path);
      const [gone] = await diagnose();
      assert.match(gone?.detail ?? "", /is missing/);
      assert.match(gone?.fix ?? "", /skep resume web --cold$/);
    });
  }

  test("is the chunk that is damaged, where all is read", async (t) => {
    const { diagnose, directory } = await suspended(t);
    await damageFile(directory, "pack", (bytes) => {
      bytes[100] = (bytes[100] as number) ^ 1;
      return bytes;
    });
    assert.equal((await diagnose())[0]?.status, "ok");
    const [check] = await diagnose({ thorough: true });
    assert.match(check?.detail ?? "", /memory\.pack, chunk 0/);
  });

  test("is that its state is gone, or is another one's", async (t) => {
    const { diagnose, directory, id } = await suspended(t);
    const other = await diagnose({ states: [{ name: "web", state: id, digest: "0".repeat(64) }] });
    assert.match(other[0]?.detail ?? "", /not the machine's/);
    await rm(directory, { recursive: true });
    const [gone] = await diagnose();
    assert.match(gone?.detail ?? "", /does not exist/);
  });

  test("tells of snapshots by their names, and counts what both have once", async (t) => {
    const { diagnose, directory, id, digest } = await suspended(t);
    const snapshot = { name: "web", snapshot: "first", state: id, digest };
    const [alone] = await diagnose();
    const stored = /with .*$/.exec(alone?.detail ?? "")?.[0];
    const [both] = await diagnose({ states: [{ name: "web", state: id, digest }, snapshot] });
    assert.equal(both?.detail, `1 suspended, 1 of snapshots, ${stored}`);
    await rm(statePaths(directory).pack);
    const [check, ...more] = await diagnose({ states: [snapshot] });
    assert.deepEqual([check?.name, check?.status, more.length], ["snapshot first of web", "failed", 0]);
    assert.match(check?.fix ?? "", /skep snapshot restore web first --cold; .*skep snapshot rm web first$/);
  });
});
