import assert from "node:assert/strict";
import { SkepError } from "@skep/base";
import type { CheckFinding, OpenVolume, VolumeStatistics, VolumeStore } from "../types.ts";
import { joined } from "./data.ts";
import type { KnownSnapshot, KnownVolume } from "./known.ts";
import { intersect, type Loss, show, VolumeModel } from "./model.ts";
import { codeOf, type Host, type World } from "./world.ts";

/** What a volume is checked against: the loss that its host has suffered since it was last looked at. */
export interface Verification {
  world: World;
  host: Host;
  store: VolumeStore;
  volumes: KnownVolume[];
  loss: Exclude<Loss, "nothing">;
  /** A power loss came before the loss of the disk: what it left may have been put into the store. */
  isMixed?: boolean;
  /** Leaves nothing that only this host has. */
  leaves?: boolean;
}

/** Opens it and looks at all there is: bytes, snapshots, figures, what lies in the store and here. */
export async function verifyVolume(scene: Verification, volume: KnownVolume): Promise<void> {
  const { world, store, volumes } = scene;
  if (!(await exists(store, volume.id))) {
    assert.ok(!volume.isCertain, `volume ${volume.id} is gone`);
    volumes.splice(volumes.indexOf(volume), 1);
    return;
  }
  if (volume.isCertain && world.random.chance(0.3)) await verifyOffline(scene, volume.id, false);
  const device = await opened(scene, volume);
  if (device === undefined) {
    await store.remove(volume.id);
    volumes.splice(volumes.indexOf(volume), 1);
    return;
  }
  volume.isCertain = true;
  await verifyBytes(scene, volume, device);
  verifyStatistics(device.statistics(), device.sizeBytes);
  await verifySnapshots(scene, volume, device);
  const collects = world.random.chance(0.35);
  if (collects) {
    await world.server.settle();
    await device.collectGarbage();
    const seen = await readAll(world, device);
    assert.equal(volume.model.refute(seen, 0, world.time.next()), undefined, "after garbage was collected");
  }
  const drains = collects || scene.leaves === true || world.random.chance(0.6);
  const begun = world.time.next();
  await device.close({ drain: drains });
  if (!drains) return;
  volume.model.secure(begun, "disk");
  verifyNoWal(scene.host, volume.id);
  await verifyOffline(scene, volume.id, collects);
}

/** In pieces of any size, some at the same time. */
export async function readAll(world: World, device: OpenVolume): Promise<Buffer> {
  const { sizeBytes } = device;
  const whole = Buffer.alloc(sizeBytes);
  const reads: Promise<void>[] = [];
  for (let at = 0; at < sizeBytes; ) {
    const length = Math.min(1 + world.random.below(64 * 4096), sizeBytes - at);
    reads.push(readInto(device, whole, at, length));
    at += length;
    if (world.random.chance(0.5)) await Promise.all(reads.splice(0));
  }
  await Promise.all(reads);
  return whole;
}

async function readInto(device: OpenVolume, whole: Buffer, at: number, length: number): Promise<void> {
  const seen = joined(await device.read(at, length, { signal: new AbortController().signal }));
  assert.equal(seen.length, length, "the length of what was read");
  seen.copy(whole, at);
}

/** Undefined where it is a clone that nobody was told of, of a snapshot that was removed since. */
async function opened({ store, loss }: Verification, volume: KnownVolume): Promise<OpenVolume | undefined> {
  try {
    return await store.open(volume.id, { takeOver: loss === "disk" });
  } catch (error) {
    if (volume.isCertain || codeOf(error) !== "VOLUME_UNFINISHED") throw error;
    return undefined;
  }
}

async function exists(store: VolumeStore, id: string): Promise<boolean> {
  try {
    await store.info(id);
    return true;
  } catch (error) {
    if (error instanceof SkepError && error.code === "VOLUME_NOT_FOUND") return false;
    throw error;
  }
}

async function verifyBytes(scene: Verification, volume: KnownVolume, device: OpenVolume): Promise<void> {
  const { world, loss } = scene;
  const seen = await readAll(world, device);
  const { model } = volume;
  if (volume.source !== undefined && model.sizeBytes === 0) {
    adoptClone(world, volume, seen);
    return;
  }
  const sizes = [model.sizeBytes, ...volume.sizes];
  assert.ok(
    sizes.includes(seen.length) && seen.length >= model.sizeBytes,
    `${seen.length} bytes, not one of ${sizes}`,
  );
  const why = model.refute(seen, 0, world.time.next(), loss);
  assert.equal(why, undefined, `${volume.id}: ${why}`);
  if (loss === "disk" && scene.isMixed !== true) verifyInstant(volume, seen);
  model.settle(seen, loss === "disk" ? "disk" : "power");
  volume.sizes.clear();
}

/** The store holds a state that the volume once had, no older than what is known to be there. */
export function verifyInstant({ id, model }: KnownVolume, seen: Buffer): void {
  const instants = model.instants(seen);
  assert.ok(typeof instants !== "string", `${id} was never as the store has it: ${instants}`);
  const since = { from: model.storedSince, to: Number.POSITIVE_INFINITY };
  assert.ok(
    intersect(instants, [since]).length > 0,
    `${id} is in the store as it was at ${show(instants)}, not since ${model.storedSince}`,
  );
}

/** The first look at a clone: it is what the snapshot is. */
export function adoptClone(world: World, volume: KnownVolume, seen: Buffer): void {
  const { source } = volume;
  if (source === undefined || volume.model.sizeBytes > 0) return;
  compareSnapshot(source, seen);
  volume.model = new VolumeModel(world.time, seen.length);
  volume.model.settle(seen, "disk");
}

function compareSnapshot(known: KnownSnapshot, seen: Buffer): void {
  if (known.seen !== undefined) {
    if (!known.seen.equals(seen)) {
      assert.fail(`snapshot "${known.name}" has changed at ${differs(known.seen, seen)}`);
    }
    return;
  }
  const instants = known.of.model.instants(seen);
  const what = `snapshot "${known.name}" of ${known.of.id}`;
  assert.ok(typeof instants !== "string", `${what} is no instant: ${instants}`);
  assert.ok(
    intersect(instants, [known.taken]).length > 0,
    `${what} is from ${show(instants)}, and was taken within ${show([known.taken])}`,
  );
  known.seen = seen;
}

function differs(one: Buffer, other: Buffer): number {
  return one.findIndex((byte, at) => byte !== other[at]);
}

async function verifySnapshots(scene: Verification, volume: KnownVolume, device: OpenVolume): Promise<void> {
  const { world, store, volumes } = scene;
  const now = world.time.next();
  const listed = device.info().snapshots;
  for (const known of [...volume.snapshots]) {
    const found = listed.find(({ id, name }) => id === known.id || name === known.name);
    if (found === undefined) {
      const isNeeded = volumes.some((one) => one.source === known && one.isCertain);
      assert.ok(
        (known.id === undefined || known.mayBeGone) && !isNeeded,
        `snapshot "${known.name}" of ${volume.id} is gone`,
      );
      volume.snapshots.splice(volume.snapshots.indexOf(known), 1);
      continue;
    }
    known.id = found.id;
    known.mayBeGone = false;
    known.taken.to = Math.min(known.taken.to, now);
  }
  for (const { id } of listed) {
    assert.ok(
      volume.snapshots.some((known) => known.id === id),
      "a snapshot that nobody took",
    );
  }
  const known = world.random.pick(volume.snapshots);
  if (known?.id === undefined || world.random.chance(0.4)) return;
  const id = world.volumeId();
  const made = await store.clone({ volume: volume.id, snapshot: known.id }, { id });
  const clone = await store.open(id);
  const seen = await readAll(world, clone);
  assert.equal(seen.length, made.sizeBytes);
  compareSnapshot(known, seen);
  await clone.close();
  await store.remove(id);
}

function verifyStatistics(figures: VolumeStatistics, sizeBytes: number): void {
  for (const [name, figure] of Object.entries(figures)) {
    if (typeof figure !== "number") continue;
    assert.ok(Number.isFinite(figure) && figure >= 0, `${name} is ${figure}`);
  }
  assert.ok(figures.mappedBytes <= sizeBytes, `${figures.mappedBytes} bytes mapped of ${sizeBytes}`);
  assert.equal(figures.fenced, false);
}

/** What is in the store needs nothing of this host any more. */
function verifyNoWal(host: Host, id: string): void {
  const left = host.files
    .paths()
    .filter((path) => path.includes(`${id}/wal/`))
    .filter((path) => host.files.size(path) > 4096);
  assert.deepEqual(left, [], "WAL segments of a volume that was closed");
}

/** All is there; nothing is too much either, where garbage was collected. */
async function verifyOffline({ world, store }: Verification, id: string, isClean: boolean): Promise<void> {
  await world.server.settle();
  const before = await world.server.keys();
  const { findings } = await store.check(id);
  assert.deepEqual(await world.server.keys(), before, "a check changes nothing");
  const bad = findings.filter((one) => isClean || (one.lost.length > 0 && !isNoLoss(one)));
  assert.deepEqual(bad, [], `what a check of ${id} finds`);
}

/** What a power loss has taken of the log that nobody had flushed. */
function isNoLoss({ kind, why }: CheckFinding): boolean {
  return kind === "wal" && why.includes("were never flushed");
}
