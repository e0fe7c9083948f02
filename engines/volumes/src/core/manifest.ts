import { fail } from "../errors.ts";
import { isVolumeId } from "./paths.ts";
import { blockBytes, type Compression, type Durability, maxVolumeBytes, type VolumeInfo } from "../types.ts";

export const manifestVersion = 1;
export const maxManifestBytes = 1024 * 1024;
const maxSnapshots = 4096;
const maxMapObjects = 4096;

export interface ManifestSnapshot {
  Id: string;
  Name: string | null;
  At: number;
  Size: number;
  /** Of the last map object that it holds. */
  MapVersion: number;
}

/** `config.json` as it is in the store. Sizes are bytes, times milliseconds since 1970. */
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
  /** `Wal`: 16 hexadecimal digits. */
  Owner: { Host: string; Wal: string; Since: number } | null;
  Commit: string;
  Map: { Base: string | null; BaseBytes: number; Deltas: string[]; DeltaBytes: number };
  Snapshots: ManifestSnapshot[];
  Source: { Volume: string; Snapshot: string } | null;
  Durability: Durability;
  Compression: Compression;
  Encryption: { Algorithm: "AES-256-GCM"; WrappedKey: string } | null;
  Limits: { Iops: number | null; BytesPerSecond: number | null };
  CreatedAt: number;
  /** It is being removed: nobody may use it any more. */
  Deleting?: true;
}

export function encodeManifest(manifest: Manifest): Uint8Array {
  return Buffer.from(`${JSON.stringify(manifest, null, 2)}\n`);
}

/** VOLUME_VERSION, VOLUME_DAMAGED: every field is what it must be. */
export function decodeManifest(bytes: Uint8Array, id: string, object: string): Manifest {
  const damaged = (why: string, cause?: unknown) =>
    fail("VOLUME_DAMAGED", { id, object, why }, cause === undefined ? {} : { cause });
  if (bytes.length > maxManifestBytes) throw damaged(`it has ${bytes.length} bytes`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(bytes).toString("utf8"));
  } catch (error) {
    throw damaged("it is not JSON", error);
  }
  if (!isObject(value)) throw damaged("it is not a JSON object");
  if (value.Version !== manifestVersion) {
    const version = typeof value.Version === "number" ? value.Version : "unknown";
    throw fail("VOLUME_VERSION", { id, version, known: manifestVersion });
  }
  const bad = wrongField(value, id);
  if (bad !== undefined) throw damaged(`its field ${bad} cannot be so`);
  return value as unknown as Manifest;
}

type Fields = Record<string, unknown>;

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isWhole = (value: unknown, most: number) =>
  Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
const isCount = (value: unknown) => isWhole(value, 2 ** 32 - 1);
const isNumber = (value: unknown) => isWhole(value, Number.MAX_SAFE_INTEGER);
const isText = (value: unknown, most = 256) => typeof value === "string" && value.length <= most;
const isKey = (value: unknown) =>
  isText(value) && /^vol-[0-9a-f]{17}\/map\/[0-9a-f]{8}-[0-9a-f]{8}$/.test(value as string);
const isLimit = (value: unknown) => value === null || (isNumber(value) && (value as number) > 0);
const isSize = (value: unknown) =>
  isWhole(value, maxVolumeBytes) && (value as number) > 0 && (value as number) % blockBytes === 0;

function wrongField(value: Fields, id: string): string | undefined {
  const checks: Record<string, (field: unknown) => boolean> = {
    VolumeName: (field) => field === id,
    VolumeSize: isSize,
    BlockSize: (field) => field === blockBytes,
    ObjBlockSize: (field) => isWhole(field, 64 * 1024 * 1024) && (field as number) >= 4 * blockBytes,
    SeqNum: isNumber,
    ObjectNum: isCount,
    WALNum: isCount,
    BlockToObjectWALNum: isCount,
    Epoch: isCount,
    Owner: (field) =>
      field === null ||
      (isObject(field) &&
        isText(field.Host) &&
        /^[0-9a-f]{16}$/.test(String(field.Wal)) &&
        isNumber(field.Since)),
    Commit: (field) => isText(field, 64),
    Map: (field) =>
      isObject(field) &&
      (field.Base === null || isKey(field.Base)) &&
      isNumber(field.BaseBytes) &&
      isNumber(field.DeltaBytes) &&
      Array.isArray(field.Deltas) &&
      field.Deltas.length <= maxMapObjects &&
      field.Deltas.every(isKey),
    Snapshots: (field) => Array.isArray(field) && field.length <= maxSnapshots && field.every(isSnapshot),
    Source: (field) =>
      field === null || (isObject(field) && isVolumeId(String(field.Volume)) && isText(field.Snapshot, 32)),
    Durability: (field) => field === "local" || field === "remote",
    Compression: (field) => field === "none" || field === "zstd",
    Encryption: (field) =>
      field === null ||
      (isObject(field) && field.Algorithm === "AES-256-GCM" && isText(field.WrappedKey, 4096)),
    Limits: (field) => isObject(field) && isLimit(field.Iops) && isLimit(field.BytesPerSecond),
    CreatedAt: isNumber,
    Deleting: (field) => field === undefined || field === true,
  };
  return Object.keys(checks).find((name) => checks[name]?.(value[name]) !== true);
}

function isSnapshot(value: unknown): boolean {
  return (
    isObject(value) &&
    /^snap-[0-9a-f]{17}$/.test(String(value.Id)) &&
    (value.Name === null || isText(value.Name, 128)) &&
    isNumber(value.At) &&
    isSize(value.Size) &&
    isCount(value.MapVersion)
  );
}

export function infoOf(manifest: Manifest): VolumeInfo {
  const { Owner, Source, Limits } = manifest;
  return {
    id: manifest.VolumeName,
    sizeBytes: manifest.VolumeSize,
    encrypted: manifest.Encryption !== null,
    durability: manifest.Durability,
    compression: manifest.Compression,
    limits: { iops: Limits.Iops, bytesPerSecond: Limits.BytesPerSecond },
    createdAt: manifest.CreatedAt,
    source: Source === null ? null : { volume: Source.Volume, snapshot: Source.Snapshot },
    snapshots: manifest.Snapshots.map(({ Id, Name, At, Size }) => {
      return { id: Id, name: Name, createdAt: At, sizeBytes: Size };
    }),
    owner: Owner === null ? null : { host: Owner.Host, since: Owner.Since },
    epoch: manifest.Epoch,
  };
}
