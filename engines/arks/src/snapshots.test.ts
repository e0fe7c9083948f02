import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import type { MachineFile, Machines } from "@skep/machines";
import type { FrozenMachines } from "./frozen.ts";
import { ensureSnapshots, type SnapshotFile, writeSnapshot } from "./snapshot-file.ts";
import { Snapshots } from "./snapshots.ts";
import { ownDirectory, plainMachine } from "./testing.ts";

const at = (minute: number) => `2026-11-21T11:${String(minute).padStart(2, "0")}:00.000Z`;

/** Snapshots of a machine "web" that nobody drives: what became of jobs is told by what lies on disk. */
async function snapshotsOf(
  test: TestContext,
  kept: readonly { name: string; minute: number }[],
  file: Partial<MachineFile> = {},
) {
  const home = await ownDirectory(test);
  const directory = join(home, "machines/web");
  await mkdir(directory, { recursive: true });
  await ensureSnapshots(directory);
  for (const { name, minute } of kept) await writeSnapshot(directory, snapshot(name, at(minute)));
  const machines = {
    get: () => ({ directory }),
    files: () => ({ files: [{ name: "web", suspended: null, ...file }], damaged: [] }),
  } as unknown as Machines;
  const log = { warn() {}, error() {} };
  const snapshots = new Snapshots({ home, machines, frozen: {} as FrozenMachines, log, reach() {} });
  const told = (kind: string, request: object, minute: number) =>
    snapshots.recoverJob(`machine.snapshot.${kind}`, "web", request, at(minute));
  return { directory, told, snapshots };
}

function snapshot(name: string, createdAt: string): SnapshotFile {
  const machine: SnapshotFile["machine"] = {
    ...plainMachine,
    disk: null,
    dataDisks: [],
  };
  const rest = { memory: null, fileSystemsFrozen: null, pauseMs: null, parent: null };
  return { version: 1, name, createdAt, state: "stopped", machine, ...rest };
}

describe("a snapshot job that was cut off", () => {
  it("has made what was made since it was asked for, under its name or the one that was found for it", async (t) => {
    const { told } = await snapshotsOf(t, [
      { name: "first", minute: 1 },
      { name: "snapshot-1", minute: 5 },
    ]);
    assert.equal(await told("create", {}, 4), "finished");
    assert.equal(await told("create", {}, 6), "undone");
    assert.equal(await told("create", { name: "first" }, 1), "finished");
    assert.equal(await told("create", { name: "first" }, 2), "undone");
    assert.equal(await told("create", { name: "other" }, 0), "undone");
  });

  it("has set the machine back where that was since then", async (t) => {
    const kept = [{ name: "first", minute: 1 }];
    const { told } = await snapshotsOf(t, kept, { snapshot: "first", setBackAt: at(7) });
    assert.equal(await told("restore", { name: "first" }, 6), "finished");
    assert.equal(await told("restore", { name: "first" }, 8), "undone");
    assert.equal(await told("restore", { name: "other" }, 6), "undone");
    const { told: never } = await snapshotsOf(t, kept, { snapshot: "first" });
    assert.equal(await never("restore", { name: "first" }, 2), "undone");
  });

  it("has removed what is there no more, be it damaged", async (t) => {
    const { told, directory } = await snapshotsOf(t, [{ name: "first", minute: 1 }]);
    await writeFile(join(directory, "snapshots/hurt.json"), "{");
    assert.equal(await told("remove", { name: "first" }, 2), "undone");
    assert.equal(await told("remove", { name: "hurt" }, 2), "undone");
    assert.equal(await told("remove", { name: "gone" }, 2), "finished");
  });
});
