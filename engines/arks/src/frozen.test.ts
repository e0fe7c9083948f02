import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { mkdir, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { suite, test } from "node:test";
import { quietWork } from "@skep/base";
import { frozenDirectory } from "@skep/machines";
import { type Frozen, FrozenMachines } from "./frozen.ts";
import { readFrozenRecord, writeFrozenRecord } from "./frozen-record.ts";
import { frozenFromState } from "./frozen-state.ts";
import { readManifest } from "./manifest.ts";
import { packFrozen } from "./pack-frozen.ts";
import { newStateId } from "./paths.ts";
import {
  type Cleanup,
  hostRecord,
  type MadeState,
  makeMemory,
  makeState,
  ownDirectory,
  seededBytes,
  smallMemory,
} from "./testing.ts";

const machine = { version: 1, id: "5f0c1d2e-0000-4000-8000-123456789abc", name: "web", ports: [] };

interface Place {
  home: string;
  machines: FrozenMachines;
  /** Ids that running machines borrow from. */
  borrowed: Set<string>;
  /** A new one. */
  make(slicesFrozen?: boolean): Promise<Frozen>;
}

/** The frozen machines of a home of its own; whatever is left of them goes with the test. */
async function place(t: Cleanup, home?: string): Promise<Place> {
  const own = home ?? (await ownDirectory(t));
  const borrowed = new Set<string>();
  const machines = open(own, borrowed);
  t.after(async () => {
    borrowed.clear();
    const last = open(own, borrowed);
    await last.sweepDrafts();
    await last.sweep();
  });
  const make = async (slicesFrozen = false) => {
    await using draft = await machines.begin(newStateId());
    await makeMemory(draft.ramPath, smallMemory.bytes, smallMemory.contents());
    return await draft.keep({
      createdAt: "2026-11-21T11:00:00.000Z",
      machine,
      host: hostRecord(),
      device: { form: "xen", stream: seededBytes("device", 300_000) },
      memoryBytes: smallMemory.bytes,
      pauseMs: 61,
      slicesFrozen,
    });
  };
  return { home: own, machines, borrowed, make };
}

/** Another process that has the same home. */
const again = ({ home, borrowed }: Place) => open(home, borrowed);

/** Of a host that has so much room. */
const open = (home: string, borrowed: ReadonlySet<string>, roomBytes = Infinity) =>
  new FrozenMachines({
    home,
    borrowed: () => borrowed,
    admit: async (_, bytes) => assert.ok(bytes <= roomBytes, "there is no room"),
    log: { warn() {}, error() {} },
  });

const never = () => assert.fail("it was there");
const isThere = ({ id }: { id: string }) => existsSync(frozenDirectory(id));

async function stateOf(t: Cleanup): Promise<MadeState & { known: { state: string; digest: string } }> {
  const state = await makeState(t);
  const { digest } = await readManifest(state.directory);
  return { ...state, known: { state: state.manifest.id, digest } };
}

suite("a frozen machine", () => {
  test("goes when the last who was given it gives it back", async (t) => {
    const { machines, make } = await place(t);
    const frozen = await make();
    const second = await machines.take(frozen.id, never);
    assert.deepEqual(second.record, frozen.record);
    await frozen[Symbol.asyncDispose]();
    await frozen[Symbol.asyncDispose](); // counts once
    await machines.sweep();
    assert.ok(isThere(frozen));
    await second[Symbol.asyncDispose]();
    assert.ok(!isThere(frozen));
  });

  test("stays for as long as a running machine borrows from it, also over a new process", async (t) => {
    const all = await place(t);
    const frozen = await all.make();
    all.borrowed.add(frozen.id);
    await frozen[Symbol.asyncDispose]();
    const later = again(all);
    await later.sweep();
    assert.ok(isThere(frozen));
    all.borrowed.clear();
    await later.sweep();
    assert.ok(!isThere(frozen));
  });

  test("is made where there is room beside what others in the making may still take", async (t) => {
    const machines = open(await ownDirectory(t), new Set(), 100);
    const one = await machines.admit("web", 60);
    await assert.rejects(machines.admit("web", 41), /no room/);
    (await machines.admit("web", 40))[Symbol.dispose]();
    one[Symbol.dispose]();
    (await machines.admit("web", 100))[Symbol.dispose]();
  });

  test("is found again with its devices, by whoever opens the home next", async (t) => {
    const all = await place(t);
    const { id, record, ramPath } = await all.make(true);
    assert.equal(record.slicesFrozen, true);
    assert.ok(record.populatedBytes > 0 && record.populatedBytes < smallMemory.bytes / 4);
    await using found = await again(all).take(id, never);
    assert.deepEqual(found.record, record);
    assert.ok((await found.device()).equals(seededBytes("device", 300_000)));
    assert.equal(found.ramPath, ramPath);
  });

  test("can be opened by its group alone where skepd is root, by its user elsewhere", async (t) => {
    const { make } = await place(t);
    const [one, other] = [await make(), await make()];
    const { mode, gid, uid } = statSync(one.ramPath);
    assert.equal(uid, process.getuid?.());
    assert.equal((mode & 0o777).toString(8), one.record.gid === null ? "600" : "660");
    assert.equal((statSync(join(one.directory, "device")).mode & 0o777).toString(8), "600");
    if (process.getuid?.() !== 0) return;
    assert.equal(gid, one.record.gid);
    assert.notEqual(gid, other.record.gid);
    assert.ok(gid >= 2_147_418_112 && gid <= 2_147_483_646);
    assert.equal((statSync(one.directory).mode & 0o777).toString(8), "711");
  });

  test("of another home, or another user's directory, is left alone", async (t) => {
    const [mine, theirs] = [await place(t), await place(t)];
    const frozen = await theirs.make();
    await mine.machines.sweep();
    await mine.machines.sweepDrafts();
    assert.ok(isThere(frozen));
    await assert.rejects(again(mine).take(frozen.id, never));
    assert.ok(isThere(frozen));
    const id = newStateId();
    await mkdir(frozenDirectory(id));
    t.after(() => rm(frozenDirectory(id), { recursive: true }));
    await mine.machines.sweep();
    assert.ok(isThere({ id }));
  });

  test("leaves nothing where it was not kept, or its maker died", async (t) => {
    const all = await place(t);
    const before = await readdir("/dev/shm");
    {
      await using draft = await all.machines.begin(newStateId());
      await writeFile(draft.ramPath, "half");
    }
    const left = await all.machines.begin(newStateId());
    await writeFile(left.ramPath, "half");
    const later = again(all);
    await later.sweep();
    assert.ok(existsSync(left.directory)); // it could be in the making
    await later.sweepDrafts();
    assert.ok(!existsSync(left.directory));
    const made = (await readdir("/dev/shm")).filter((name) => !before.includes(name));
    assert.deepEqual(
      made.filter((name) => name.includes(left.id)),
      [],
    );
  });

  const damages: [string, (frozen: Frozen) => Promise<void>][] = [
    ["device", ({ directory }) => writeFile(join(directory, "device"), seededBytes("other", 300_000))],
    ["device's size", ({ directory }) => truncate(join(directory, "device"), 299_999)],
    ["memory's size", ({ ramPath }) => truncate(ramPath, smallMemory.bytes + 4096)],
    ["memory", ({ ramPath }) => rm(ramPath)],
    ["record", ({ directory }) => rm(join(directory, "record.json"))],
    ["record's text", ({ directory }) => writeFile(join(directory, "record.json"), "{")],
    ["record's version", ({ directory }) => writeFile(join(directory, "record.json"), '{"version":2}')],
    ["record's fields", ({ directory }) => writeFile(join(directory, "record.json"), '{"version":1}')],
    ["record's id", ({ directory, record }) => writeFrozenRecord(directory, { ...record, id: newStateId() })],
  ];
  for (const [what, damage] of damages) {
    test(`with another ${what} is made anew, unless a machine borrows from it`, async (t) => {
      const all = await place(t);
      const state = await stateOf(t);
      const states = open(state.home, all.borrowed);
      t.after(async () => {
        all.borrowed.clear();
        await rm(frozenDirectory(state.manifest.id), { recursive: true, force: true });
      });
      await using first = await frozenFromState(states, state.known, quietWork());
      all.borrowed.add(first.id);
      await first[Symbol.asyncDispose]();
      await damage(first);
      await assert.rejects(frozenFromState(states, state.known, quietWork()), { code: "STATE_MEMORY" });
      assert.ok(isThere(first));
      all.borrowed.clear();
      await using second = await frozenFromState(states, state.known, quietWork());
      assert.ok((await readFile(second.ramPath)).equals(await readFile(state.ramPath)));
      assert.ok((await second.device()).equals(seededBytes("device", 700_000)));
      assert.deepEqual(await readFrozenRecord(second.directory), second.record);
    });
  }
});

suite("a state and a frozen machine", () => {
  test("are made from each other without loss", async (t) => {
    const { home, machines, make } = await place(t);
    await using frozen = await make(true);
    const source = await readFile(frozen.ramPath);
    const packed = await packFrozen(frozen, { home, kind: "snapshot", work: quietWork() });
    assert.deepEqual(await readManifest(packed.directory), {
      manifest: packed.manifest,
      digest: packed.digest,
    });
    const { id, kind, slicesFrozen, device, pauseMs } = packed.manifest;
    assert.deepEqual([id, kind, slicesFrozen, device.form], [frozen.id, "snapshot", true, "xen"]);
    assert.equal(pauseMs, 61);
    await frozen[Symbol.asyncDispose]();
    assert.ok(!isThere(frozen));
    await using back = await frozenFromState(machines, { state: id, digest: packed.digest }, quietWork());
    assert.ok((await readFile(back.ramPath)).equals(source));
    assert.ok((await back.device()).equals(seededBytes("device", 300_000)));
    const { gid: _, populatedBytes: __, ...was } = frozen.record;
    const { gid: ___, populatedBytes: ____, ...is } = back.record;
    assert.deepEqual(is, was);
  });

  test("of several who want it at once, it is unpacked by one", async (t) => {
    const state = await stateOf(t);
    const { machines } = await place(t, state.home);
    let unpacked = 0;
    const work = {
      ...quietWork(),
      report: ({ done }: { done?: number }) => (unpacked += done === undefined ? 0 : 1),
    };
    const all = await Promise.all([1, 2, 3].map(() => frozenFromState(machines, state.known, work)));
    const once = unpacked;
    assert.ok(once > 0);
    const [first] = all as [Frozen, ...Frozen[]];
    await using _another = await frozenFromState(machines, state.known, work);
    assert.equal(unpacked, once);
    for (const one of all) await one[Symbol.asyncDispose]();
    assert.ok(isThere(first));
  });

  test("where the state is damaged, another one or cancelled, nothing is made", async (t) => {
    const state = await stateOf(t);
    const { machines } = await place(t, state.home);
    const { known } = state;
    const other = { ...known, digest: "0".repeat(64) };
    await assert.rejects(frozenFromState(machines, other, quietWork()), { code: "STATE_DAMAGED" });
    await assert.rejects(frozenFromState(machines, { ...known, state: newStateId() }, quietWork()), {
      code: "STATE_NOT_FOUND",
    });
    const stop = new AbortController();
    const work = { ...quietWork(stop.signal), report: () => stop.abort() };
    await assert.rejects(frozenFromState(machines, known, work), { name: "AbortError" });
    const pack = join(state.directory, "memory.pack");
    const bytes = await readFile(pack);
    bytes.writeUInt8(bytes.readUInt8(1000) ^ 1, 1000);
    await writeFile(pack, bytes);
    await assert.rejects(frozenFromState(machines, known, quietWork()), { code: "STATE_DAMAGED" });
    const left = (await readdir("/dev/shm")).filter((name) => name.includes(known.state));
    assert.deepEqual(left, []);
  });

  test("is not packed twice, and not when cancelled; nothing is left but what was there", async (t) => {
    const { home, make } = await place(t);
    await using frozen = await make();
    const stop = new AbortController();
    const work = { ...quietWork(stop.signal), report: () => stop.abort() };
    await assert.rejects(packFrozen(frozen, { home, kind: "snapshot", work }), { name: "AbortError" });
    assert.deepEqual(await readdir(join(home, "states")), []);
    await packFrozen(frozen, { home, kind: "snapshot", work: quietWork() });
    await assert.rejects(packFrozen(frozen, { home, kind: "snapshot", work: quietWork() }), {
      code: "STATE_UNWRITABLE",
    });
    assert.deepEqual(await readdir(join(home, "states")), [frozen.id]);
  });
});
