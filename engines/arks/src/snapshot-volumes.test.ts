import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { SkepError } from "@skep/base";
import type { Machine, VolumeAccess } from "@skep/machines";
import { snapshotPaths } from "./snapshot-file.ts";
import {
  dropVolumes,
  namesOf,
  settleVolumes,
  VolumeInstant,
  volumesOfSnapshots,
  writeIntent,
} from "./snapshot-volumes.ts";

const one = "vol-00000000000000001";
const two = "vol-00000000000000002";
const { signal } = new AbortController();

/** Volumes' snapshots in memory; marks go when it dies. */
class Snapshots {
  readonly there = new Set<string>();
  readonly needed = new Set<string>();
  readonly #marks = new Map<string, string[]>();
  isGone = false;

  die(): void {
    this.#marks.clear();
  }

  access(): Partial<VolumeAccess> {
    return {
      ready: async () => {},
      mark: async (mark, volumes) =>
        void this.#marks.set(
          mark,
          volumes.map(({ snapshot }) => snapshot),
        ),
      complete: async (mark) => {
        const marked = this.#marks.get(mark);
        if (marked === undefined) throw new SkepError("MARK_UNKNOWN", "it is gone");
        for (const snapshot of marked) this.there.add(snapshot);
      },
      abandon: async (mark) => void this.#marks.delete(mark),
      dropSnapshot: async (_, snapshot) => {
        if (this.isGone) throw new SkepError("DAEMON_UNREACHABLE", "nobody answers");
        if (this.needed.has(snapshot)) throw new SkepError("SNAPSHOT_NEEDED", "a clone needs it");
        this.there.delete(snapshot);
      },
    };
  }
}

let home: string;
let snapshots: Snapshots;
let machine: Machine;
beforeEach(async () => {
  home = await mkdtemp("/tmp/skep-sv-");
  snapshots = new Snapshots();
  const directory = join(home, "machines", "web");
  await mkdir(directory, { recursive: true });
  const volume = { role: "data", readOnly: false, slot: 0, sizeBytes: 4096, detaching: false };
  machine = {
    name: "web",
    paths: { directory },
    file: {
      volumes: [
        { ...volume, id: one },
        { ...volume, id: two, slot: 1 },
      ],
    },
    context: { heldSnapshots: new Set(), volumes: snapshots.access(), log: { warn() {}, info() {} } },
  } as unknown as Machine;
});
afterEach(() => rm(home, { recursive: true, force: true }));

const intents = async () =>
  (await readdir(join(home, "machines/web/snapshots"))).filter((name) => name.startsWith("."));
/** Without what makes each the only one of its name. */
const beside = async () => (await intents()).map((name) => name.replace(/~[0-9a-f]{12}/, ""));

async function taken(stem = "first"): Promise<VolumeInstant> {
  const instant = await VolumeInstant.plan(machine, stem, signal);
  await instant.mark(signal);
  await instant.complete(signal);
  return instant;
}

/** The record of a snapshot, with these volumes. */
async function record(name: string, volumes: VolumeInstant["volumes"]): Promise<void> {
  const id = "00000000-0000-4000-8000-000000000000";
  const settings = {
    id,
    cpus: 1,
    memoryMiB: 64,
    firmware: "bios",
    machineType: "pc-q35-7.2",
    kernelArguments: "",
  };
  const disks = { cdrom: null, disk: null, dataDisks: [] };
  const state = { state: "stopped", memory: null, fileSystemsFrozen: null, pauseMs: null, parent: null };
  const whole = {
    version: 1,
    name,
    createdAt: "2026-01-01T00:00:00.000Z",
    machine: { ...settings, ...disks },
    volumes,
    ...state,
  };
  await writeFile(snapshotPaths(machine.paths.directory, name).file, JSON.stringify(whole));
}

describe("volumes at one instant", () => {
  it("are snapshots that stay once they are named", async () => {
    const instant = await taken();
    assert.equal(snapshots.there.size, 2);
    await instant.keep();
    await instant.undo();
    assert.deepEqual([snapshots.there.size, await beside()], [2, []]);
  });

  it("leave nothing where they are given up, before or after they are complete", async () => {
    await (await taken()).undo();
    const instant = await VolumeInstant.plan(machine, "first", signal);
    await instant.mark(signal);
    await instant.undo();
    assert.deepEqual([snapshots.there.size, await beside()], [0, []]);
  });

  it("are refused as a whole where storaged died meanwhile", async () => {
    const instant = await VolumeInstant.plan(machine, "first", signal);
    await instant.mark(signal);
    snapshots.die();
    await assert.rejects(instant.complete(signal), { code: "MARK_UNKNOWN" });
    await instant.undo();
    assert.deepEqual(await beside(), []);
  });

  it("of a machine without any need nobody", async () => {
    machine.file.volumes = [];
    machine.context.volumes = {} as VolumeAccess;
    await (await taken()).undo();
    await settleVolumes(machine);
    assert.deepEqual(await readdir(machine.paths.directory), []);
  });
});

describe("while another is under way", () => {
  it("its volumes' snapshots stay, and go once it is given up", async () => {
    const first = await taken("fork-1");
    const second = await taken("second");
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [4, [".fork-1.volumes", ".second.volumes"]]);
    await record("second", second.volumes);
    await second.keep();
    await first.undo();
    await settleVolumes(machine);
    assert.deepEqual([...snapshots.there].sort(), second.volumes.map(({ snapshot }) => snapshot).sort());
    assert.deepEqual(await beside(), []);
  });
});

describe("after a crash", () => {
  /** What was under way is so no longer. */
  const die = () => machine.context.heldSnapshots.clear();

  it("those that no snapshot names go, and those that one names stay", async () => {
    const first = await taken("first");
    await record("first", first.volumes);
    await taken("second");
    die();
    await settleVolumes(machine);
    assert.deepEqual([...snapshots.there].sort(), first.volumes.map(({ snapshot }) => snapshot).sort());
    assert.deepEqual(await beside(), []);
  });

  it("those of a snapshot whose record is gone already go", async () => {
    const { volumes } = await taken("first");
    await writeIntent(machine, "first", namesOf(volumes));
    die();
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [0, []]);
  });

  it("what cannot be removed now is the next time", async () => {
    await taken("first");
    snapshots.isGone = true;
    die();
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [2, [".first.volumes"]]);
    assert.equal((await volumesOfSnapshots(home, "web")).length, 2);
    snapshots.isGone = false;
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [0, []]);
  });

  it("what could not be removed stays known when another of its name is begun and given up", async () => {
    await taken("first");
    snapshots.isGone = true;
    die();
    await settleVolumes(machine);
    snapshots.isGone = false;
    await (await taken("first")).undo();
    assert.deepEqual([snapshots.there.size, await beside()], [2, [".first.volumes"]]);
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [0, []]);
  });

  it("one that a clone needs is left to it", async () => {
    const { volumes } = await taken("fork-1");
    const [first] = namesOf(volumes);
    snapshots.needed.add(first?.snapshot ?? "");
    const [intent = ""] = (await intents()).map((file) => file.slice(1, -".volumes".length));
    assert.deepEqual(await dropVolumes(machine, intent, namesOf(volumes)), [first]);
    assert.deepEqual([snapshots.there.size, await beside()], [1, []]);
  });

  it("nothing goes while a snapshot cannot be read, which may name it", async () => {
    const { volumes } = await taken("first");
    await record("first", volumes);
    await writeFile(snapshotPaths(machine.paths.directory, "other").file, "{");
    die();
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await beside()], [2, [".first.volumes"]]);
  });

  it("a file that says nonsense removes nothing", async () => {
    const { volumes } = await taken("first");
    await record("first", volumes);
    const nonsense = { version: 1, volumes: [{ volume: "../x", snapshot: volumes[0]?.snapshot }] };
    const [file = ""] = await intents();
    await writeFile(join(machine.paths.directory, "snapshots", file), JSON.stringify(nonsense));
    die();
    await settleVolumes(machine);
    assert.deepEqual([snapshots.there.size, await intents()], [2, [file]]);
  });
});
