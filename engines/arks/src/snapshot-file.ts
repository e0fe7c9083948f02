import { lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { checkName, exists, isErrno, readVersionedJson, syncDirectory, writeVersionedJson } from "@skep/base";
import type { MachineFile } from "@skep/machines";
import { atLeastZero, json, listOf, oneOf, optional, orNull, pattern, record, whole } from "./shape.ts";
import { failSnapshot } from "./snapshot-errors.ts";
import type { SnapshotVolume } from "./snapshot-volumes.ts";

/** What a snapshot keeps of its machine's settings: all that the guest sees, and its disks' layers. */
export type SnapshotMachine = Pick<
  MachineFile,
  | "id"
  | "cpus"
  | "memoryMiB"
  | "firmware"
  | "machineType"
  | "kernelArguments"
  | "cdrom"
  | "disk"
  | "dataDisks"
>;

/** `snapshots/<name>.json` in a machine's directory. It is written last, and removed first. */
export interface SnapshotFile {
  version: 1;
  name: string;
  /** ISO 8601, UTC. */
  createdAt: string;
  /** What the machine was. */
  state: "running" | "suspended" | "stopped";
  machine: SnapshotMachine;
  /** Absent where it had none. */
  volumes?: SnapshotVolume[];
  /** The state that its guest goes on from; null: it boots. Others may name the same one. */
  memory: SnapshotMemory | null;
  fileSystemsFrozen: boolean | null;
  pauseMs: number | null;
  /** A snapshot's name; it may be gone. */
  parent: string | null;
}

export interface SnapshotMemory {
  state: string;
  /** sha256 of its manifest. */
  digest: string;
  populatedMiB: number;
  storedBytes: number;
  /** Whether the guest's agent was there, to be told the time. */
  agent: boolean;
}

/** A record that cannot be read. */
export interface DamagedSnapshot {
  name: string;
  why: string;
  /** When its file was last written; ISO 8601, UTC. */
  createdAt: string;
}

export interface SnapshotPaths {
  directory: string;
  file: string;
  efiVars: string;
  knownHosts: string;
}

const suffix = ".json";
const largestFile = 1_048_576;

/** `directory` is the machine's. */
export function snapshotPaths(directory: string, name: string): SnapshotPaths {
  const inside = join(directory, "snapshots");
  const stem = join(inside, checkName(name, "snapshot"));
  return {
    directory: inside,
    file: `${stem}${suffix}`,
    efiVars: `${stem}.efi-vars`,
    knownHosts: `${stem}.known_hosts`,
  };
}

const time = pattern(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z$/);
const bytes = whole(0, Number.MAX_SAFE_INTEGER);
const base = record({
  path: pattern(/^layers\/[0-9a-f]{8}-[0-9a-f-]{27}\.qcow2$/),
  format: oneOf("qcow2"),
});
const disk = record({ sizeBytes: whole(1, Number.MAX_SAFE_INTEGER), base });

const shape = record({
  version: oneOf(1),
  name: pattern(/^[a-z0-9](?:[a-z0-9-]{0,46}[a-z0-9])?$/),
  createdAt: time,
  state: oneOf("running", "suspended", "stopped"),
  machine: record({
    id: pattern(/^[0-9a-f]{8}-[0-9a-f-]{27}$/),
    cpus: whole(1, 4096),
    memoryMiB: whole(1, 2 ** 24),
    firmware: oneOf("bios", "uefi"),
    machineType: pattern(/^[\w.-]{1,64}$/),
    kernelArguments: pattern(/^[\x20-\x7e]{0,4096}$/),
    cdrom: orNull(pattern(/^\/[^\0]{0,4095}$/)),
    disk: orNull(disk),
    dataDisks: listOf(disk, 64),
  }),
  volumes: optional(
    listOf(
      record({
        id: pattern(/^vol-[0-9a-f]{17}$/),
        role: oneOf("data", "root", "efi"),
        readOnly: oneOf(true, false),
        slot: orNull(whole(0, 31)),
        sizeBytes: bytes,
        snapshot: pattern(/^snap-[0-9a-f]{17}$/),
      }),
      64,
    ),
  ),
  memory: orNull(
    record({
      state: pattern(/^st-[0-9a-f]{17}$/),
      digest: pattern(/^[0-9a-f]{64}$/),
      populatedMiB: bytes,
      storedBytes: bytes,
      agent: oneOf(true, false),
    }),
  ),
  fileSystemsFrozen: oneOf(true, false, null),
  pauseMs: orNull(atLeastZero),
  parent: orNull(pattern(/^[a-z0-9][a-z0-9-]{0,47}$/)),
});

/** SNAPSHOT_NOT_FOUND, SNAPSHOT_DAMAGED. `machine` is its name, `directory` its directory. */
export async function readSnapshot(machine: string, directory: string, name: string): Promise<SnapshotFile> {
  const { file } = snapshotPaths(directory, name);
  const refuse = (why: string, cause?: unknown) =>
    failSnapshot("SNAPSHOT_DAMAGED", { snapshot: name, machine, why: `${file}: ${why}` }, { cause });
  const found = await lstat(file).catch((error: unknown) => {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) {
      throw failSnapshot("SNAPSHOT_NOT_FOUND", { machine, snapshot: name });
    }
    throw error;
  });
  if (!found.isFile()) throw refuse("it is no regular file");
  if (found.size > largestFile) throw refuse(`it has ${found.size} bytes, too many`);
  let value: unknown;
  try {
    value = await readVersionedJson(file, 1);
  } catch (error) {
    throw refuse((error as Error).message, error);
  }
  const why = json(16)(value, "it") ?? shape(value, "it");
  if (why !== undefined) throw refuse(why);
  const snapshot = value as SnapshotFile;
  if (snapshot.name !== name) throw refuse(`it is that of snapshot "${snapshot.name}"`);
  return snapshot;
}

/** The one point at which a snapshot comes to be, or is changed. */
export async function writeSnapshot(directory: string, snapshot: SnapshotFile): Promise<void> {
  await writeVersionedJson(snapshotPaths(directory, snapshot.name).file, snapshot);
}

/** Makes the directory of a machine's snapshots, durably. */
export async function ensureSnapshots(directory: string): Promise<void> {
  const inside = join(directory, "snapshots");
  if (await exists(inside)) return;
  await mkdir(inside, { mode: 0o700 });
  await syncDirectory(directory);
}

/** Its record goes as a whole, and first. */
export async function removeSnapshotFiles(directory: string, name: string): Promise<void> {
  const paths = snapshotPaths(directory, name);
  const doomed = join(paths.directory, `.rm-${name}`);
  await rename(paths.file, doomed);
  await syncDirectory(paths.directory);
  for (const path of [doomed, paths.efiVars, paths.knownHosts]) {
    await rm(path, { recursive: true, force: true });
  }
}

/** Of one machine, oldest first. What else lies there counts for nothing. */
export async function readSnapshots(
  machine: string,
  directory: string,
): Promise<{ snapshots: SnapshotFile[]; damaged: DamagedSnapshot[] }> {
  const inside = join(directory, "snapshots");
  const names = await readdir(inside).catch((error: unknown) => {
    if (isErrno(error, "ENOENT") || isErrno(error, "ENOTDIR")) return [];
    throw error;
  });
  const snapshots: SnapshotFile[] = [];
  const damaged: DamagedSnapshot[] = [];
  for (const file of names.filter((one) => one.endsWith(suffix) && !one.startsWith(".")).sort()) {
    const name = file.slice(0, -suffix.length);
    try {
      snapshots.push(await readSnapshot(machine, directory, name));
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      if (code !== "SNAPSHOT_DAMAGED") continue; // gone meanwhile, or no snapshot's name
      const { mtime } = await lstat(join(inside, file));
      damaged.push({ name, why: message, createdAt: mtime.toISOString() });
    }
  }
  const byTime = (one: { createdAt: string }, other: { createdAt: string }) =>
    one.createdAt < other.createdAt ? -1 : one.createdAt > other.createdAt ? 1 : 0;
  return { snapshots: snapshots.sort(byTime), damaged: damaged.sort(byTime) };
}

/** What a snapshot's record alone keeps on disk. */
export function layersOf({
  machine: { disk, dataDisks },
}: SnapshotFile): { path: string; format: "qcow2" }[] {
  const bases = [disk?.base, ...dataDisks.map(({ base: layer }) => layer)];
  return bases.flatMap((one) => (one == null ? [] : [{ path: one.path, format: "qcow2" as const }]));
}
