import type { BlockDevice } from "@skep/nbd";
import type { ObjectStore } from "@skep/objects";

/**
 * Volumes: log-structured block devices in an object store (FORMAT.md). Sizes are bytes, times milliseconds
 * since 1970. Errors are those of errors.ts.
 */

export const blockBytes = 4096;
/** 2^32 blocks. */
export const maxVolumeBytes = 2 ** 32 * blockBytes;

/** When a FLUSH is answered: once the WAL here, or the store, has everything on stable storage. */
export type Durability = "local" | "remote";
export type Compression = "none" | "zstd";

export interface Limits {
  /** Requests a second; each 256 KiB of one count once. Null: none. */
  iops: number | null;
  bytesPerSecond: number | null;
}

export interface VolumeSettings {
  durability: Durability;
  compression: Compression;
  limits: Limits;
}

export interface CreateVolume extends Partial<VolumeSettings> {
  /** `vol-` and 17 hexadecimal digits; chosen where it is not given. */
  id?: string;
  /** A multiple of 4,096; at most `maxVolumeBytes`. */
  sizeBytes: number;
  encrypted?: boolean;
  /** For tests; 4 MiB otherwise. */
  objBlockBytes?: number;
}

export interface SnapshotInfo {
  id: string;
  name: string | null;
  createdAt: number;
  sizeBytes: number;
}

/** What the manifest says. */
export interface VolumeInfo extends VolumeSettings {
  id: string;
  sizeBytes: number;
  encrypted: boolean;
  createdAt: number;
  source: { volume: string; snapshot: string } | null;
  snapshots: SnapshotInfo[];
  /** Who has it open, or had when its host died. */
  owner: { host: string; since: number } | null;
  epoch: number;
}

/** Of an open volume, from memory. */
export interface VolumeStatistics {
  /** Blocks that hold something, times 4,096. */
  mappedBytes: number;
  /** What its own chunks take in the store. */
  storedBytes: number;
  chunks: number;
  walBytes: number;
  extents: number;
  /** What of memory the maps take. */
  mapMemoryBytes: number;
  /** Counters since it was opened. */
  bytesWritten: number;
  bytesRead: number;
  flushes: number;
  bytesToStore: number;
  bytesFromStore: number;
  /** Why the store does not take what waits, since when; null while all is well. */
  problem: { message: string; since: number } | null;
  fenced: boolean;
}

/** A verb that is given up fails with VOLUME_GIVEN_UP at once. If it had begun, it is left to itself. */
export interface VerbOptions {
  signal?: AbortSignal | undefined;
}

/** An instant of an open volume, which becomes a snapshot, or goes: at the latest with the process. */
export interface VolumeMark {
  /** The snapshot's. */
  readonly id: string;
  /** Once the store has all of it. SNAPSHOT_EXISTS never; MARK_GONE after `abandon`. */
  complete(options?: VerbOptions): Promise<SnapshotInfo>;
  /** Where `complete` is under way this may be too late; afterwards nothing happens. */
  abandon(): void;
}

/** An open volume. Offsets and lengths in bytes, of any alignment. */
export interface OpenVolume extends BlockDevice, AsyncDisposable {
  readonly id: string;
  info(): VolumeInfo;
  statistics(): VolumeStatistics;
  /** Puts all that was answered before into the store; settles after the manifest's swap. */
  drain(options?: { signal?: AbortSignal }): Promise<void>;
  /** Grows (VOLUME_SHRINK otherwise); in the manifest when it returns. */
  resize(sizeBytes: number, options?: VerbOptions): Promise<void>;
  change(settings: Partial<VolumeSettings>, options?: VerbOptions): Promise<void>;
  /** All that was answered before; no data is copied. SNAPSHOT_EXISTS where the name is taken. */
  snapshot(options?: { name?: string; id?: string } & VerbOptions): Promise<SnapshotInfo>;
  /**
   * Keeps this instant, all that was answered before, for a snapshot; in one turn, whatever the store does.
   * SNAPSHOT_EXISTS.
   */
  mark(options?: { name?: string; id?: string }): VolumeMark;
  /**
   * Becomes again what it was at a snapshot, which stays, as do all others; what was written since is given up. Its
   * size stays: behind the snapshot's end are zeroes. Writes wait meanwhile. SNAPSHOT_NOT_FOUND, VOLUME_DAMAGED.
   */
  revert(snapshot: string, options?: VerbOptions): Promise<void>;
  /** SNAPSHOT_NEEDED while a clone needs it. */
  removeSnapshot(id: string, options?: VerbOptions): Promise<void>;
  /** Compacts, deletes what nobody needs, orphans of crashes included. */
  collectGarbage(options?: {
    signal?: AbortSignal;
    onProgress?: (done: number, total: number) => void;
  }): Promise<Collected>;
  /** Drains, gives the epoch up, unlocks. With `drain: false` what is not in the store stays in the WAL. */
  close(options?: { drain?: boolean; signal?: AbortSignal }): Promise<void>;
}

export interface Collected {
  deletedObjects: number;
  deletedBytes: number;
  rewrittenBytes: number;
}

/** Something wrong with a volume in the store or here, and what it means. */
export interface CheckFinding {
  kind: "manifest" | "map" | "chunk" | "block" | "wal" | "orphan";
  /** The store's key, or the path. */
  object: string;
  why: string;
  /** Which bytes of the volume cannot be read because of it; empty: none. */
  lost: { offset: number; length: number }[];
}

export interface CheckReport {
  findings: CheckFinding[];
  chunks: number;
  blocks: number;
  bytes: number;
}

/** Wraps volumes' keys with the installation's. `name` is bound to it. */
export interface KeyWrap {
  wrap(key: Uint8Array, name: string): string;
  /** Undefined where it does not open. */
  unwrap(wrapped: string, name: string): Uint8Array | undefined;
}

export interface Clock {
  now(): number;
  /** Rejects when aborted. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

/** Volumes of one store prefix on this host: `engines/volumes/src/volumes.ts`. */
export interface VolumeStore {
  readonly store: ObjectStore;
  create(request: CreateVolume): Promise<VolumeInfo>;
  info(id: string): Promise<VolumeInfo>;
  list(): Promise<VolumeInfo[]>;
  /** VOLUME_OPEN, VOLUME_IN_USE (another host's; `takeOver` fences it), VOLUME_DAMAGED, VOLUME_VERSION. */
  open(id: string, options?: { takeOver?: boolean }): Promise<OpenVolume>;
  /** A new volume that shares all of a snapshot's data. */
  clone(
    source: { volume: string; snapshot: string },
    request: Omit<CreateVolume, "sizeBytes" | "encrypted"> & { sizeBytes?: number },
  ): Promise<VolumeInfo>;
  /** VOLUME_OPEN; VOLUME_NEEDED while clones of its snapshots live; VOLUME_HAS_SNAPSHOTS unless `snapshots`. */
  remove(id: string, options?: { snapshots?: boolean; force?: boolean }): Promise<void>;
  /** Reads everything, offline; changes nothing. */
  check(
    id: string,
    options?: { signal?: AbortSignal; onProgress?: (done: number, total: number) => void },
  ): Promise<CheckReport>;
}
