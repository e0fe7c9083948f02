import { readdir, stat } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Volume, VolumeSnapshot } from "@skep/api/schemas";
import { toSkepError } from "@skep/base";
import type { ObjectStore } from "@skep/objects";
import type { SnapshotInfo, VolumeInfo, VolumeStore } from "@skep/volumes";
import type { OpenVolumes } from "./open.ts";
import type { VolumeRecord } from "./records.ts";

/** A list of volumes shall not wait long for a store that does not answer. */
const answerLimitMs = 5000;

export interface ViewOptions {
  directory: string;
  store: Volume["store"];
  volumes(): Promise<VolumeStore>;
  open: OpenVolumes;
}

/** A volume as the control API shows it; what cannot be asked of its store is told as its problem. */
export async function viewOf(record: VolumeRecord, options: ViewOptions): Promise<Volume> {
  const { id, name, attached } = record;
  const open = options.open.get(id);
  const serving = options.open.serving(id);
  const walDirectory = join(options.directory, "wal");
  const basis = { id, name, machine: attached?.machine ?? null, store: options.store };
  try {
    const statistics = open?.statistics();
    const store = open === undefined ? await within(options.volumes()) : undefined;
    const info = open?.info() ?? (await within((store as VolumeStore).info(id)));
    const problem =
      serving?.problem ??
      (statistics?.fenced === true
        ? "another host has taken it over: nothing more is written from here"
        : null) ??
      statistics?.problem?.message ??
      null;
    return {
      ...basis,
      state: stateOf(record, info, open !== undefined),
      problem,
      ...described(info),
      storedBytes: statistics?.storedBytes ?? (await storedBytes((store as VolumeStore).store, id)),
      walBytes: statistics?.walBytes ?? (await bytesIn(walDirectory)),
      snapshots: info.snapshots.map((snapshot) => snapshotView(record, snapshot)),
      directory: options.directory,
      socket: serving?.socket ?? null,
      statistics:
        statistics === undefined
          ? null
          : {
              clients: serving?.clients ?? 0,
              mappedBytes: statistics.mappedBytes,
              chunks: statistics.chunks,
              extents: statistics.extents,
              mapMemoryBytes: statistics.mapMemoryBytes,
              bytesWritten: statistics.bytesWritten,
              bytesRead: statistics.bytesRead,
              flushes: statistics.flushes,
              bytesToStore: statistics.bytesToStore,
              bytesFromStore: statistics.bytesFromStore,
            },
    };
  } catch (error) {
    const { store, directory } = options;
    const view = await unreadable(record, serving?.problem ?? toSkepError(error).message, directory);
    return { ...view, store, socket: serving?.socket ?? null };
  }
}

/** A volume of which no more is known than its record says. */
export async function unreadable(record: VolumeRecord, problem: string, directory: string): Promise<Volume> {
  const { id, name, attached, sizeBytes, createdAt, store } = record;
  return {
    id,
    name,
    machine: attached?.machine ?? null,
    state: "unreadable",
    problem,
    sizeBytes,
    createdAt,
    store: { endpoint: null, bucket: store.bucket },
    storedBytes: null,
    walBytes: await bytesIn(join(directory, "wal")),
    durability: "local",
    compression: "none",
    encrypted: false,
    iops: null,
    bandwidth: null,
    source: null,
    owner: null,
    snapshots: [],
    directory,
    socket: null,
    statistics: null,
  };
}

function stateOf(record: VolumeRecord, info: VolumeInfo, isOpen: boolean): Volume["state"] {
  if (record.filling !== null) return "filling";
  if (record.attached !== null) return "attached";
  const { owner } = info;
  return !isOpen && owner !== null && owner.host !== hostname() ? "elsewhere" : "available";
}

function described(info: VolumeInfo) {
  const { sizeBytes, durability, compression, encrypted, limits, source, owner, createdAt } = info;
  return {
    sizeBytes,
    durability,
    compression,
    encrypted,
    iops: limits.iops,
    bandwidth: limits.bytesPerSecond,
    source,
    owner: owner === null ? null : { host: owner.host, since: timeText(owner.since) },
    createdAt: timeText(createdAt),
  };
}

export function snapshotView({ id, name }: VolumeRecord, snapshot: SnapshotInfo): VolumeSnapshot {
  return {
    id: snapshot.id,
    name: snapshot.name,
    volume: id,
    volumeName: name,
    sizeBytes: snapshot.sizeBytes,
    createdAt: timeText(snapshot.createdAt),
  };
}

const timeText = (milliseconds: number) => new Date(milliseconds).toISOString();

/** Rejects where there is no answer in time; it may come later, and then counts for nothing. */
async function within<T>(answer: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const why = new Error(`its store has not answered for ${answerLimitMs / 1000} s`);
    timer = setTimeout(() => reject(why), answerLimitMs);
  });
  try {
    return await Promise.race([answer, late]);
  } finally {
    clearTimeout(timer);
  }
}

async function storedBytes(store: ObjectStore, id: string): Promise<number> {
  let bytes = 0;
  let continuation: string | undefined;
  do {
    const page = await within(
      store.list({ prefix: `${id}/`, ...(continuation === undefined ? {} : { continuation }) }),
    );
    for (const { sizeBytes } of page.objects) bytes += sizeBytes;
    continuation = page.next;
  } while (continuation !== undefined);
  return bytes;
}

async function bytesIn(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory).catch(() => [])) {
    bytes += (await stat(join(directory, name)).catch(() => undefined))?.size ?? 0;
  }
  return bytes;
}
