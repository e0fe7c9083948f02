import assert from "node:assert/strict";
import { mkdir, readdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import {
  ensureSnapshots,
  readSnapshot,
  readSnapshots,
  removeSnapshotFiles,
  type SnapshotFile,
  snapshotPaths,
  writeSnapshot,
} from "./snapshot-file.ts";
import { freeName } from "./snapshot-names.ts";
import { snapshotUses } from "./snapshot-uses.ts";
import { type Cleanup, ownDirectory, plainMachine } from "./testing.ts";

const layer = (digit: string) => ({
  path: `layers/${digit.repeat(8)}-0000-4000-8000-123456789abc.qcow2`,
  format: "qcow2" as const,
});

function snapshot(name: string, change: Partial<SnapshotFile> = {}): SnapshotFile {
  return {
    version: 1,
    name,
    createdAt: "2026-11-21T11:00:00.000Z",
    state: "running",
    machine: {
      ...plainMachine,
      disk: { sizeBytes: 1024, base: layer("a") },
      dataDisks: [{ sizeBytes: 512, base: layer("b") }],
    },
    memory: {
      state: "st-0123456789abcdef0",
      digest: "0".repeat(64),
      populatedMiB: 64,
      storedBytes: 4096,
      agent: true,
    },
    fileSystemsFrozen: null,
    pauseMs: 12,
    parent: null,
    ...change,
  };
}

async function machineDirectory(test: Cleanup): Promise<{ home: string; directory: string }> {
  const home = await ownDirectory(test);
  const directory = join(home, "machines/web");
  await mkdir(directory, { recursive: true });
  await ensureSnapshots(directory);
  return { home, directory };
}

describe("a snapshot's record", () => {
  it("is read as it was written, oldest first, and is gone as a whole", async (t) => {
    const { directory } = await machineDirectory(t);
    const later = snapshot("a", { createdAt: "2026-11-21T12:00:00.000Z", parent: "b" });
    for (const one of [later, snapshot("b")]) await writeSnapshot(directory, one);
    await writeFile(snapshotPaths(directory, "b").efiVars, "variables");
    const { snapshots, damaged } = await readSnapshots("web", directory);
    assert.deepEqual([snapshots, damaged], [[snapshot("b"), later], []]);
    await removeSnapshotFiles(directory, "b");
    assert.deepEqual(await readdir(join(directory, "snapshots")), ["a.json"]);
    await assert.rejects(readSnapshot("web", directory, "b"), { code: "SNAPSHOT_NOT_FOUND" });
  });

  it("is refused where a field is not as it should be, with the field", async (t) => {
    const { directory } = await machineDirectory(t);
    const { file } = snapshotPaths(directory, "a");
    for (const [change, says] of [
      [{ name: "b" }, /snapshot "b"/],
      [{ state: "paused" }, /state is not/],
      [{ createdAt: "yesterday" }, /createdAt/],
      [{ parent: "../x" }, /parent/],
      [{ memory: {} }, /memory\.state/],
      [{ extra: 1 }, /unknown field "extra"/],
      [{ machine: { ...snapshot("a").machine, disk: { sizeBytes: -1, base: layer("a") } } }, /sizeBytes/],
      [
        {
          machine: {
            ...snapshot("a").machine,
            disk: { sizeBytes: 1, base: { path: "layers/../../etc/shadow", format: "qcow2" } },
          },
        },
        /disk\.base\.path/,
      ],
      [{ machine: { ...snapshot("a").machine, cdrom: "relative" } }, /cdrom/],
      [{ machine: { ...snapshot("a").machine, dataDisks: [{}] } }, /dataDisks\[0\]/],
    ] as [object, RegExp][]) {
      await writeFile(file, JSON.stringify({ ...snapshot("a"), ...change }));
      await assert.rejects(readSnapshot("web", directory, "a"), (error: Error & { code: string }) => {
        assert.equal(error.code, "SNAPSHOT_DAMAGED");
        assert.match(error.message, /^snapshot "a" of machine "web" cannot be used: .*a\.json: /);
        assert.match(error.message, says);
        return true;
      });
    }
  });

  it("is none where it is a link, a directory or too large", async (t) => {
    const { directory } = await machineDirectory(t);
    const path = (name: string) => snapshotPaths(directory, name).file;
    await writeSnapshot(directory, snapshot("a"));
    await symlink(path("a"), path("b"));
    await mkdir(path("c"));
    await writeFile(path("d"), Buffer.alloc(1_048_577, " "));
    const { snapshots, damaged } = await readSnapshots("web", directory);
    assert.deepEqual(
      [snapshots.map(({ name }) => name), damaged.map(({ name }) => name).sort()],
      [["a"], ["b", "c", "d"]],
    );
  });

  it("keeps names that are paths out", async (t) => {
    const { directory } = await machineDirectory(t);
    await assert.rejects(readSnapshot("web", directory, "../../machine"), { code: "NAME_INVALID" });
  });
});

describe("what snapshots hold on to", () => {
  it("are their layers and states; where one cannot be read, that is told", async (t) => {
    const { home, directory } = await machineDirectory(t);
    await writeSnapshot(directory, snapshot("a"));
    await writeSnapshot(directory, snapshot("b", { memory: null }));
    const uses = await snapshotUses(home);
    assert.deepEqual([...uses.states], ["st-0123456789abcdef0"]);
    assert.deepEqual(
      new Set(uses.layers.map(({ path }) => path)),
      new Set([layer("a").path, layer("b").path]),
    );
    assert.deepEqual(uses.damaged, []);
    await writeFile(snapshotPaths(directory, "b").file, "{");
    assert.deepEqual((await snapshotUses(home)).damaged, ["web/b"]);
    assert.deepEqual((await snapshotUses(join(home, "nowhere"))).damaged, []);
  });

  it("a new name is above all numbers that are there", async (t) => {
    const { directory } = await machineDirectory(t);
    const machine = { name: "web", paths: { directory } } as Parameters<typeof freeName>[0];
    assert.equal(await freeName(machine, "snapshot"), "snapshot-1");
    for (const name of ["snapshot-2", "snapshot-10", "snapshot-x"])
      await writeSnapshot(directory, snapshot(name));
    assert.equal(await freeName(machine, "snapshot"), "snapshot-11");
  });
});
