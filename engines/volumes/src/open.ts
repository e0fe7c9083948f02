import { join } from "node:path";
import type { Core } from "./core.ts";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { VolumeKey } from "./keys.ts";
import type { Manifest, SnapshotEntry } from "./manifest.ts";
import { ExtentMap, zero } from "./map/extent-map.ts";
import { loadMap } from "./map-objects.ts";
import { codeOf } from "./objects.ts";
import { newCommit, Ownership, putManifest, readManifest } from "./ownership.ts";
import { Pace } from "./pace.ts";
import { checkVolumeId, type LocalPaths, localPaths, ownerName, ownerWords } from "./paths.ts";
import { blockBytes } from "./types.ts";
import { Volume } from "./volume.ts";
import { inspectWal, setAside } from "./wal/open.ts";
import { removeFile } from "./wal/segment.ts";
import { dataSlotBytes } from "./wal/slot.ts";
import { Wal } from "./wal/wal.ts";

const swapTries = 100;
const sourceTries = 20;
const sourcePauseMs = 250;

/** VOLUME_OPEN, VOLUME_IN_USE, VOLUME_DAMAGED, VOLUME_VERSION, VOLUME_KEY, VOLUME_NOT_FOUND. */
export async function openVolume(
  env: Environment,
  id: string,
  options: { takeOver?: boolean; closed: () => void },
): Promise<Volume> {
  checkVolumeId(id);
  const paths = localPaths(env.directory, id);
  const found = await presentManifest(env, id);
  await env.files.mkdir(paths.directory);
  const lock = env.lock(paths.lock);
  if (lock === undefined) throw fail("VOLUME_OPEN", { id });
  const unlock = () => {
    lock[Symbol.dispose]();
    options.closed();
  };
  try {
    const core = await begin(env, paths, found, options.takeOver === true);
    const given = () => forgetOwners(env, paths, undefined);
    return new Volume(core, { given, unlock });
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

export async function presentManifest(
  env: Environment,
  id: string,
): Promise<{ manifest: Manifest; etag: string }> {
  const found = await readManifest(env, id);
  if (found.manifest.Removing === true) throw fail("VOLUME_NOT_FOUND", { id });
  return found;
}

/** SNAPSHOT_NOT_FOUND, also where it is being removed. */
export async function presentSnapshot(
  env: Environment,
  { volume, snapshot }: { volume: string; snapshot: string },
): Promise<SnapshotEntry> {
  const { manifest } = await presentManifest(env, volume);
  const entry = manifest.Snapshots.find(({ Id }) => Id === snapshot);
  if (entry === undefined || entry.Deleting === true) {
    throw fail("SNAPSHOT_NOT_FOUND", { id: volume, snapshot: snapshot.slice(0, 80) });
  }
  return entry;
}

/**
 * A clone's manifest may reach the store late, when whoever wanted the clone was told that it has failed, and
 * the snapshot was removed since. That is no volume, and before it is first opened it is known by that. While a
 * removal looks for clones, its mark says nothing yet: it takes the mark away when it finds this one.
 */
async function checkSource(env: Environment, { VolumeName: id, Source, Epoch }: Manifest): Promise<void> {
  if (Source === null || Epoch > 0) return;
  for (let tries = 1; ; tries += 1) {
    const state = await stateOf(env, Source);
    if (state === "present") return;
    if (state === "gone") {
      throw fail("VOLUME_UNFINISHED", { id, source: Source.Volume, snapshot: Source.Snapshot });
    }
    if (tries === sourceTries) {
      throw fail("VOLUME_SOURCE_GOING", { id, source: Source.Volume, snapshot: Source.Snapshot });
    }
    await env.clock.sleep(sourcePauseMs);
  }
}

async function stateOf(
  env: Environment,
  { Volume, Snapshot }: { Volume: string; Snapshot: string },
): Promise<"present" | "going" | "gone"> {
  try {
    const { manifest } = await readManifest(env, Volume);
    const entry = manifest.Snapshots.find(({ Id }) => Id === Snapshot);
    if (entry === undefined) return "gone";
    return manifest.Removing === true || entry.Deleting === true ? "going" : "present";
  } catch (error) {
    if (codeOf(error) !== "VOLUME_NOT_FOUND") throw error;
    return "gone";
  }
}

/** The volume's own key; null where it is not encrypted. VOLUME_KEY. */
export function volumeKey(env: Environment, manifest: Manifest, name: string): VolumeKey | null {
  if (manifest.Encryption === null) return null;
  const why = (text: string) => fail("VOLUME_KEY", { id: manifest.VolumeName, why: text });
  if (env.keys === undefined) throw why("there is no key to unwrap it with");
  const bytes = env.keys.unwrap(manifest.Encryption.WrappedKey, name);
  if (bytes === undefined || bytes.length !== 32)
    throw why("it was wrapped with another key, or for another volume");
  return new VolumeKey(bytes);
}

async function begin(
  env: Environment,
  paths: LocalPaths,
  found: { manifest: Manifest; etag: string },
  takeOver: boolean,
): Promise<Core> {
  const id = found.manifest.VolumeName;
  for (let present = found, tries = 0; ; tries += 1, present = await presentManifest(env, id)) {
    const { manifest, etag } = present;
    const words = await localWords(env, paths, id);
    const isOurs = manifest.Owner !== null && words.has(manifest.Owner.Wal);
    if (manifest.Owner !== null && !isOurs && !takeOver) {
      const { Host: host, Since } = manifest.Owner;
      throw fail("VOLUME_IN_USE", { id, host, since: new Date(Since).toISOString() });
    }
    await checkSource(env, manifest);
    const key = volumeKey(env, manifest, id);
    // A damaged map is found before anything changes; who meets an owner that is busy takes it first.
    const loaded = tries === 0 ? await loadIfStill(env, present, key) : undefined;
    const word = isOurs ? (manifest.Owner?.Wal as string) : Buffer.from(env.random(8)).toString("hex");
    await markOwner(env, paths, word);
    const taken: Manifest = {
      ...manifest,
      Epoch: manifest.Epoch + 1,
      Owner: { Host: env.host, Wal: word, Since: env.clock.now() },
      Commit: newCommit(env),
      // A removal that has come to no end.
      Snapshots: manifest.Snapshots.map(({ Deleting: _, ...entry }) => entry),
    };
    const put = await putManifest(env, taken, etag);
    if (put !== undefined) {
      const map = loaded ?? (await loadMap(env, taken, key));
      return recover(env, paths, new Ownership(env, taken, put.etag), key, map);
    }
    if (tries === swapTries) {
      throw fail("VOLUME_IN_USE", { id, host: "another", since: new Date(env.clock.now()).toISOString() });
    }
  }
}

/** The map of a manifest; undefined where that was replaced meanwhile, and objects that it names may be gone. */
async function loadIfStill(
  env: Environment,
  { manifest, etag }: { manifest: Manifest; etag: string },
  key: VolumeKey | null,
): Promise<Awaited<ReturnType<typeof loadMap>> | undefined> {
  try {
    return await loadMap(env, manifest, key);
  } catch (error) {
    if (codeOf(error) !== "VOLUME_DAMAGED") throw error;
    if ((await presentManifest(env, manifest.VolumeName)).etag === etag) throw error;
    return undefined;
  }
}

/** Of all owners whose log, or mark, is on this host's disk. */
async function localWords(env: Environment, paths: LocalPaths, id: string): Promise<Set<string>> {
  const words = new Set(ownerWords(await env.files.readdir(paths.directory)));
  for (const { header } of await inspectWal({ files: env.files, directory: paths.wal })) {
    if (header?.volume === id) words.add(wordText(header.word));
  }
  return words;
}

export const wordText = (word: bigint): string => word.toString(16).padStart(16, "0");

/** Before the manifest says so: a host that dies then knows itself again, though it has written nothing. */
async function markOwner(env: Environment, paths: LocalPaths, word: string): Promise<void> {
  const { files } = env;
  const name = ownerName(word);
  if ((await files.readdir(paths.directory)).includes(name)) return;
  await (await files.open(join(paths.directory, name), "create")).close();
  await files.syncDirectory(paths.directory);
  await files.syncDirectory(env.directory);
}

async function forgetOwners(env: Environment, paths: LocalPaths, word: string | undefined): Promise<void> {
  for (const other of ownerWords(await env.files.readdir(paths.directory))) {
    if (other !== word) await removeFile(env.files, join(paths.directory, ownerName(other)));
  }
}

/** Replays what this host has and the store has not. */
async function recover(
  env: Environment,
  paths: LocalPaths,
  ownership: Ownership,
  key: VolumeKey | null,
  loaded: Awaited<ReturnType<typeof loadMap>>,
): Promise<Core> {
  const { manifest } = ownership;
  const { files } = env;
  const { VolumeName: id, Epoch, WALNum, SeqNum, VolumeSize } = manifest;
  const word = manifest.Owner?.Wal as string;
  await forgetOwners(env, paths, word);
  await setStaleAside(env, paths, id, word);
  const slotBytes = dataSlotBytes(key !== null);
  const overlay = new ExtentMap(slotBytes);
  const blocks = VolumeSize / blockBytes;
  let changes = 0;
  const wal = await Wal.open({
    files,
    directory: paths.wal,
    volume: id,
    word: BigInt(`0x${word}`),
    epoch: Epoch,
    firstSegment: WALNum,
    sequence: BigInt(SeqNum),
    key,
    segmentBytes: env.segmentBytes,
    earlySyncBytes: env.earlySyncBytes,
    random: (bytes) => env.random(bytes),
    pace: new Pace(() => env.nanoseconds()),
    log: (message) => env.log(message),
    replay: ({ block, count, segment, position, zeroes }) => {
      if (block + count > blocks) {
        const why = `block ${block + count - 1} is behind the volume's end`;
        throw fail("VOLUME_DAMAGED", { id, object: join(paths.wal, segment.toString(16)), why });
      }
      overlay.set(block, count, zeroes ? zero : segment, zeroes ? segment : position);
      changes += 1;
    },
  });
  return {
    id,
    env,
    key,
    wal,
    overlay,
    map: loaded.map,
    slotBytes,
    ownership,
    mapBytes: loaded.bytes,
    garbage: new Set(),
    damage: damageOf(env, wal),
    numbers: { chunk: manifest.ObjectNum, map: manifest.BlockToObjectWALNum },
    marks: [],
    isReverting: false,
    counters: {
      bytesWritten: 0,
      bytesRead: 0,
      flushes: 0,
      bytesToStore: 0,
      bytesFromStore: 0,
      changes,
      captured: 0,
      committed: 0,
      waitingBytes: 0,
      generation: 0,
      readEnd: 0,
      credit: 0,
    },
  };
}

/** Flushed writes that the log has lost: reads give what the store has of these blocks, which is older. */
function damageOf(env: Environment, wal: Wal): Core["damage"] {
  const lost = wal.gaps.filter(({ wasSynced }) => wasSynced);
  if (lost.length === 0) return null;
  const writes = lost.reduce((sum, { slots }) => sum + slots, 0);
  const message = `${writes} flushed writes are missing from the log on this host (${lost[0]?.path})`;
  return { message, since: env.clock.now() };
}

/** Segments of an owner that another one has overtaken: nobody knows any more what they are newer than. */
async function setStaleAside(env: Environment, paths: LocalPaths, id: string, word: string): Promise<void> {
  const stale = new Map<number, number[]>();
  for (const { number, header } of await inspectWal({ files: env.files, directory: paths.wal })) {
    if (header === null || (header.volume === id && wordText(header.word) === word)) continue;
    const numbers = stale.get(header.epoch) ?? [];
    stale.set(header.epoch, [...numbers, number]);
  }
  for (const [epoch, segments] of stale) {
    const where = await setAside({ files: env.files, directory: paths.wal, epoch, segments });
    env.log(`${id}: another host had this volume; what this one had not put into the store is in ${where}`);
  }
}
