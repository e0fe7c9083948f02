import { fail } from "./errors.ts";
import { isMapKey, isSnapshotId, isVolumeId } from "./paths.ts";
import type { SnapshotInfo, VolumeInfo } from "./types.ts";
import { blockBytes, type Compression, type Durability, type Limits, maxVolumeBytes } from "./types.ts";

/** The one object of a volume that is ever replaced, field by field as FORMAT.md has it. */

export const manifestVersion = 1;
export const maxManifestBytes = 2 ** 20;
const maxNumber = 2 ** 32 - 2;

export interface Owner {
  Host: string;
  /** 16 hexadecimal digits: the word in the headers of its segments. */
  Wal: string;
  Since: number;
}

export interface SnapshotEntry {
  Id: string;
  Name: string | null;
  At: number;
  /** Of the map. */
  Version: number;
  Size: number;
  /** It is being removed, and must not get clones any more. */
  Deleting?: true;
}

export interface Manifest {
  VolumeName: string;
  VolumeSize: number;
  BlockSize: number;
  ObjBlockSize: number;
  SeqNum: number;
  ObjectNum: number;
  WALNum: number;
  BlockToObjectWALNum: number;
  Version: number;
  Epoch: number;
  Owner: Owner | null;
  Commit: string;
  /** `Inline`: of the deltas, those that are no objects of their own, in base64. */
  Map: { Base: string | null; Deltas: string[]; Inline: Record<string, string> };
  Snapshots: SnapshotEntry[];
  Source: { Volume: string; Snapshot: string } | null;
  Durability: Durability;
  Compression: Compression;
  Encryption: { Algorithm: "AES-256-GCM"; WrappedKey: string } | null;
  Limits: { Iops: number | null; BytesPerSecond: number | null };
  CreatedAt: number;
  /** It is being removed. */
  Removing?: true;
}

export function encodeManifest(manifest: Manifest): Buffer {
  return Buffer.from(`${JSON.stringify(manifest, undefined, 1)}\n`);
}

/** Of volume `id`; every field is checked. VOLUME_VERSION, VOLUME_DAMAGED. */
export function decodeManifest(bytes: Uint8Array, id: string, key: string): Manifest {
  const damaged = (why: string, cause?: unknown) =>
    fail("VOLUME_DAMAGED", { id, object: key, why }, cause === undefined ? {} : { cause });
  if (bytes.length > maxManifestBytes) throw damaged(`it has ${bytes.length} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged("it is not JSON", cause);
  }
  if (!isRecord(value)) throw damaged("it is not a manifest");
  const { Version } = value;
  if (Number.isSafeInteger(Version) && Version !== manifestVersion && (Version as number) > 0) {
    throw fail("VOLUME_VERSION", { id, version: Version, known: manifestVersion });
  }
  const wrong = Object.entries(rules).find(([name, isRight]) => !isRight(value[name], value));
  if (wrong !== undefined) throw damaged(`its ${wrong[0]} is wrong`);
  const manifest = value as unknown as Manifest;
  if (manifest.VolumeName !== id) throw damaged(`it is the one of volume "${manifest.VolumeName}"`);
  return manifest;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isCount = (value: unknown): boolean =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= maxNumber;
const isInteger = (value: unknown): boolean => Number.isSafeInteger(value) && (value as number) >= 0;
const isText = (value: unknown, most: number): value is string =>
  typeof value === "string" && value.length <= most;
const isRate = (value: unknown): boolean => value === null || (isInteger(value) && (value as number) > 0);
const isMark = (value: unknown): boolean => value === undefined || value === true;
export const isVolumeSize = (value: unknown): boolean =>
  isInteger(value) &&
  (value as number) > 0 &&
  (value as number) % blockBytes === 0 &&
  (value as number) <= maxVolumeBytes;
export const isObjBlockSize = (value: unknown): boolean =>
  isInteger(value) &&
  (value as number) % blockBytes === 0 &&
  (value as number) >= 2 * blockBytes &&
  (value as number) <= 64 * 2 ** 20;

const rules: Record<keyof Manifest, (value: unknown, all: Record<string, unknown>) => boolean> = {
  VolumeName: (value) => typeof value === "string" && isVolumeId(value),
  VolumeSize: isVolumeSize,
  BlockSize: (value) => value === blockBytes,
  ObjBlockSize: isObjBlockSize,
  SeqNum: isInteger,
  ObjectNum: isCount,
  WALNum: isCount,
  BlockToObjectWALNum: (value) => isCount(value) && (value as number) > 0,
  Version: (value) => value === manifestVersion,
  Epoch: isCount,
  Owner: (value) => value === null || isOwner(value),
  Commit: (value) => isText(value, 100),
  Map: isMap,
  Snapshots: (value) =>
    Array.isArray(value) &&
    value.every(isSnapshot) &&
    new Set(value.map(({ Id }) => Id)).size === value.length,
  Source: (value) => value === null || isSource(value),
  Durability: (value) => value === "local" || value === "remote",
  Compression: (value) => value === "none" || value === "zstd",
  Encryption: (value) => value === null || isEncryption(value),
  Limits: (value) => isRecord(value) && isRate(value.Iops) && isRate(value.BytesPerSecond),
  CreatedAt: isInteger,
  Removing: isMark,
};

function isOwner(value: unknown): boolean {
  if (!isRecord(value)) return false;
  return (
    isText(value.Host, 1000) &&
    /^[0-9a-f]{16}$/.test(String(value.Wal)) &&
    typeof value.Wal === "string" &&
    isInteger(value.Since)
  );
}

function isMap(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { Base, Deltas, Inline } = value;
  const isKey = (key: unknown) => typeof key === "string" && isMapKey(key);
  return (
    (Base === null || isKey(Base)) &&
    Array.isArray(Deltas) &&
    Deltas.length < 2000 &&
    Deltas.every(isKey) &&
    isRecord(Inline) &&
    Object.entries(Inline).every(([key, text]) => Deltas.includes(key) && isText(text, maxManifestBytes))
  );
}

function isSnapshot(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { Id, Name, At, Version, Size, Deleting } = value;
  return (
    typeof Id === "string" &&
    isSnapshotId(Id) &&
    (Name === null || isText(Name, 1000)) &&
    isInteger(At) &&
    isCount(Version) &&
    isVolumeSize(Size) &&
    isMark(Deleting)
  );
}

function isSource(value: unknown): boolean {
  if (!isRecord(value)) return false;
  const { Volume, Snapshot } = value;
  return (
    typeof Volume === "string" && isVolumeId(Volume) && typeof Snapshot === "string" && isSnapshotId(Snapshot)
  );
}

function isEncryption(value: unknown): boolean {
  return isRecord(value) && value.Algorithm === "AES-256-GCM" && isText(value.WrappedKey, 4000);
}

export function infoOf(manifest: Manifest): VolumeInfo {
  const { Owner: owner, Source: source } = manifest;
  return {
    id: manifest.VolumeName,
    sizeBytes: manifest.VolumeSize,
    encrypted: manifest.Encryption !== null,
    createdAt: manifest.CreatedAt,
    source: source === null ? null : { volume: source.Volume, snapshot: source.Snapshot },
    snapshots: manifest.Snapshots.map(snapshotInfo),
    owner: owner === null ? null : { host: owner.Host, since: owner.Since },
    epoch: manifest.Epoch,
    durability: manifest.Durability,
    compression: manifest.Compression,
    limits: limitsOf(manifest),
  };
}

/** Of all objects that hold parts of the map, and of those parts that the manifest itself holds. */
export function mapKeys({ Map: { Base, Deltas } }: Pick<Manifest, "Map">): string[] {
  return Base === null ? Deltas : [Base, ...Deltas];
}

export function snapshotInfo({ Id, Name, At, Size }: SnapshotEntry): SnapshotInfo {
  return { id: Id, name: Name, createdAt: At, sizeBytes: Size };
}

export function limitsOf({ Limits: { Iops, BytesPerSecond } }: Manifest): Limits {
  return { iops: Iops, bytesPerSecond: BytesPerSecond };
}
