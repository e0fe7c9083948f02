import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { zstdCompress, zstdCompressSync } from "node:zlib";
import { lockFile } from "@skep/base/lock";
import type { ObjectStore } from "@skep/objects";
import { disk, type Files } from "@skep/objects/files";
import { checkVolume } from "./check.ts";
import { ChunkReader } from "./chunk/reader.ts";
import { cloneSnapshot } from "./clone.ts";
import { createVolume } from "./create.ts";
import type { Environment } from "./environment.ts";
import { fail } from "./errors.ts";
import { infoOf } from "./manifest.ts";
import { codeOf, inParallel } from "./objects.ts";
import { openVolume, presentManifest } from "./open.ts";
import { readManifest } from "./ownership.ts";
import { Pace } from "./pace.ts";
import { checkVolumeId } from "./paths.ts";
import { removeVolume } from "./remove.ts";
import { Semaphore } from "./semaphore.ts";
import { volumeIds } from "./snapshots.ts";
import type { Clock, KeyWrap, VolumeInfo, VolumeStore } from "./types.ts";
import { UploadMemory } from "./upload-memory.ts";

const mebibyte = 2 ** 20;
const readsAtOnce = 8;

/** What all volumes of a process share, whatever stores they are in. */
export interface VolumeResources {
  /** Chunks (4 MiB each) that are in memory on their way to a store. */
  uploads: Semaphore;
  uploadMemory: UploadMemory;
}

export function volumeResources(options: { uploads?: number } = {}): VolumeResources {
  return { uploads: new Semaphore(options.uploads ?? 8), uploadMemory: new UploadMemory() };
}

export interface VolumesOptions {
  store: ObjectStore;
  /** Of logs, by volume: `$SKEP_HOME/volumes`. */
  directory: string;
  /** This host's name, for people. */
  host: string;
  /** For volumes that are encrypted. */
  keys?: KeyWrap | null;
  resources?: VolumeResources;
  /** For chunks of a store elsewhere; nobody else uses it. Without it nothing is cached on this host's disk. */
  cacheDirectory?: string;
  /** 10 GiB, and never the last tenth of the disk. */
  cacheBytes?: number;
  /** What is kept in memory of chunks, at most: 32 MiB. */
  memoryBytes?: number;
  /** 64 MiB. */
  segmentBytes?: number;
  /** What of a log may be unsynced before a sync begins by itself: 16 MiB. */
  earlySyncBytes?: number;
  /** What of a volume may wait here for its store; writes wait then. 1 GiB. */
  walLimitBytes?: number;
  /**
   * A drain begins when so much waits (512 MiB; before that when it would take four seconds, or the disk is short
   * of space), or something has for that long (5 s).
   */
  drainBytes?: number;
  drainAfterMs?: number;
  /** Of small map objects, what a manifest holds itself, about: 64 KiB. */
  inlineBytes?: number;
  files?: Files;
  /** Undefined where somebody has the lock. Without it: a file's, where `files` is not given either. */
  lock?: (path: string) => Disposable | undefined;
  clock?: Clock;
  random?: (bytes: number) => Uint8Array;
  /** Lets other work of the event loop run. */
  pause?: () => Promise<void>;
  nanoseconds?: () => number;
  compress?: (bytes: Uint8Array) => Uint8Array | Promise<Uint8Array>;
  log?: (message: string) => void;
}

/** The volumes of a store, as this host has them. Nothing is read before it is asked for. */
export function openVolumes(options: VolumesOptions): VolumeStore {
  const env = environment(options);
  const open = new Set<string>();
  const whileClosed = async <T>(id: string, work: () => Promise<T>): Promise<T> => {
    if (open.has(id)) throw fail("VOLUME_OPEN", { id });
    open.add(id);
    try {
      return await work();
    } finally {
      open.delete(id);
    }
  };
  return {
    store: env.store,
    create: (request) => createVolume(env, request),
    info: async (id) => {
      checkVolumeId(id);
      return infoOf((await presentManifest(env, id)).manifest);
    },
    list: () => listVolumes(env),
    open: async (id, { takeOver = false } = {}) => {
      if (open.has(id)) throw fail("VOLUME_OPEN", { id });
      open.add(id);
      try {
        return await openVolume(env, id, { takeOver, closed: () => open.delete(id) });
      } catch (error) {
        open.delete(id);
        throw error;
      }
    },
    clone: (source, request) => cloneSnapshot(env, source, request),
    remove: (id, how = {}) => whileClosed(id, () => removeVolume(env, id, how)),
    check: (id, how = {}) => whileClosed(id, () => checkVolume(env, id, how)),
  };
}

async function listVolumes(env: Environment): Promise<VolumeInfo[]> {
  const found: VolumeInfo[] = [];
  await inParallel(await volumeIds(env), readsAtOnce, async (id) => {
    try {
      const { manifest } = await readManifest(env, id);
      if (manifest.Removing !== true) found.push(infoOf(manifest));
    } catch (error) {
      // What cannot be read is no reason not to see the others.
      if (!(codeOf(error) ?? "").startsWith("VOLUME_")) throw error;
      env.log(`${id}: ${(error as Error).message}`);
    }
  });
  return found.sort((one, other) => one.createdAt - other.createdAt || (one.id < other.id ? -1 : 1));
}

const systemClock: Clock = {
  now: () => Date.now(),
  sleep: async (milliseconds, signal) => {
    await sleep(milliseconds, undefined, signal === undefined ? {} : { signal });
  },
};

const compressLater = promisify(zstdCompress);
/** Above this the thread pool is worth its way. */
const smallBytes = 16 * 1024;

function environment(options: VolumesOptions): Environment {
  const { store, cacheDirectory, cacheBytes, memoryBytes, files = disk, clock = systemClock } = options;
  const isReal = options.files === undefined;
  const nanoseconds =
    options.nanoseconds ?? (isReal ? () => performance.now() * 1e6 : () => clock.now() * 1e6);
  const log = options.log ?? (() => undefined);
  const simulatedPause = () => clock.sleep(0);
  return {
    store,
    reader: new ChunkReader({
      store,
      files,
      pace: new Pace(nanoseconds),
      log,
      ...(cacheDirectory === undefined ? {} : { cacheDirectory }),
      ...(cacheBytes === undefined ? {} : { cacheBytes }),
      ...(memoryBytes === undefined ? {} : { memoryBytes }),
    }),
    directory: options.directory,
    host: options.host,
    keys: options.keys ?? undefined,
    files,
    clock,
    random: options.random ?? ((bytes) => randomBytes(bytes)),
    pause: options.pause ?? (options.clock === undefined ? nextTurn : simulatedPause),
    nanoseconds,
    compress:
      options.compress ??
      ((bytes) => (bytes.length <= smallBytes ? zstdCompressSync(bytes) : compressLater(bytes))),
    ...(options.resources ?? volumeResources()),
    lock: options.lock ?? (isReal ? lockFile : () => ({ [Symbol.dispose]: () => undefined })),
    log,
    earlySyncBytes: options.earlySyncBytes,
    segmentBytes: options.segmentBytes ?? 64 * mebibyte,
    walLimitBytes: options.walLimitBytes ?? 1024 * mebibyte,
    inlineBytes: options.inlineBytes ?? 64 * 1024,
    drainBytes: options.drainBytes ?? 512 * mebibyte,
    drainAfterMs: options.drainAfterMs ?? 5000,
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
