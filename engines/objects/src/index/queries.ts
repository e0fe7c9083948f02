import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Attributes, Upload, Usage, Versioning } from "../types.ts";
import { keyBytes } from "./apply.ts";
import {
  type BucketRow,
  nullVersion,
  type PartRow,
  sequenceOf,
  type UploadRow,
  type VersionRow,
} from "./rows.ts";

/** A version's row and where its inline bytes are. */
export interface IndexedVersion extends VersionRow {
  isLatest: boolean;
  segment: number;
  position: number;
  inlineAt: number;
  inlineCrc: number;
}

type Value = null | number | string | Uint8Array;

export const versionColumns = `key, sequence, version, marker, size, etag, modified, owner, attributes, blob,
  upload, uploadsequence, segment, position, inlineat, inlinecrc`;

/** Look-ups in the index, for the committer inside its transaction and for the reader. */
export class IndexQueries {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  buckets(): BucketRow[] {
    return this.all("SELECT id, name, created, owner, versioning, settings FROM buckets ORDER BY id").map(
      (row) => ({
        id: row.id as number,
        name: row.name as string,
        createdAt: row.created as number,
        owner: row.owner as string,
        versioning: row.versioning as Versioning,
        settings: JSON.parse(row.settings as string) as BucketRow["settings"],
      }),
    );
  }

  usage(bucket: number): Usage | undefined {
    return this.#get("SELECT objects, bytes, versions, uploads FROM buckets WHERE id=?", bucket) as
      | Usage
      | undefined;
  }

  hasVersions(bucket: number): boolean {
    return this.#get("SELECT 1 FROM versions WHERE bucket=? LIMIT 1", bucket) !== undefined;
  }

  latest(bucket: number, key: string): IndexedVersion | undefined {
    const row = this.#get(
      `SELECT ${versionColumns} FROM versions WHERE bucket=? AND key=? ORDER BY sequence DESC LIMIT 1`,
      bucket,
      keyBytes(key),
    );
    return row === undefined ? undefined : versionOf(bucket, row, true);
  }

  /** A version by its id. */
  version(bucket: number, key: string, versionId: string): IndexedVersion | undefined {
    const latest = this.latest(bucket, key);
    if (latest === undefined || latest.versionId === versionId) return latest;
    if (versionId === nullVersion) return this.#nullVersion(bucket, key);
    const sequence = sequenceOf(versionId);
    if (sequence === undefined) return undefined;
    const row = this.#get(
      `SELECT ${versionColumns} FROM versions WHERE bucket=? AND key=? AND sequence=?`,
      bucket,
      keyBytes(key),
      sequence,
    );
    return row?.version === versionId ? versionOf(bucket, row, false) : undefined;
  }

  /** Not the latest: mostly the oldest, written before the bucket had versions. */
  #nullVersion(bucket: number, key: string): IndexedVersion | undefined {
    const bytes = keyBytes(key);
    const oldest = this.#get(
      `SELECT ${versionColumns} FROM versions WHERE bucket=? AND key=? ORDER BY sequence LIMIT 1`,
      bucket,
      bytes,
    );
    if (oldest?.version === nullVersion) return versionOf(bucket, oldest, false);
    const row = this.#get(
      `SELECT ${versionColumns} FROM versions WHERE bucket=? AND key=? AND version='${nullVersion}' LIMIT 1`,
      bucket,
      bytes,
    );
    return row === undefined ? undefined : versionOf(bucket, row, false);
  }

  /** The version that an upload became. */
  completed(bucket: number, key: string, uploadId: string): IndexedVersion | undefined {
    const sequence = sequenceOf(uploadId);
    if (sequence === undefined) return undefined;
    const row = this.#get(
      "SELECT bucket, key, version, upload FROM versions WHERE uploadsequence=? LIMIT 1",
      sequence,
    );
    if (row === undefined || row.bucket !== bucket || row.upload !== uploadId) return undefined;
    if (textOf(row.key) !== key) return undefined;
    return this.version(bucket, key, row.version as string);
  }

  upload(bucket: number, key: string, id: string): UploadRow | undefined {
    const sequence = sequenceOf(id);
    if (sequence === undefined) return undefined;
    const row = this.#get(
      "SELECT * FROM uploads WHERE bucket=? AND key=? AND sequence=?",
      bucket,
      keyBytes(key),
      sequence,
    );
    return row?.id === id ? uploadOf(row) : undefined;
  }

  part(upload: number, number: number): PartRow | undefined {
    const row = this.#get("SELECT * FROM parts WHERE upload=? AND number=?", upload, number);
    return row === undefined ? undefined : partOf(row);
  }

  /** In the order of their numbers, those after `after`. */
  parts(upload: number, after = 0, limit = -1): PartRow[] {
    return this.all(
      "SELECT * FROM parts WHERE upload=? AND number>? ORDER BY number LIMIT ?",
      upload,
      after,
      limit,
    ).map(partOf);
  }

  uploadsOf(bucket: number): UploadRow[] {
    return this.all("SELECT * FROM uploads WHERE bucket=?", bucket).map(uploadOf);
  }

  /** Whether a row of the index points to a blob. */
  hasBlob(name: string): boolean {
    return (
      this.#get("SELECT 1 FROM versions WHERE blob=?", name) !== undefined ||
      this.#get("SELECT 1 FROM parts WHERE blob=?", name) !== undefined
    );
  }

  /** Prepared once; `set` it up then. */
  statement(sql: string, set?: (statement: StatementSync) => void): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      set?.(statement);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  all(sql: string, ...values: Value[]): Record<string, unknown>[] {
    return this.statement(sql).all(...values) as Record<string, unknown>[];
  }

  #get(sql: string, ...values: Value[]): Record<string, unknown> | undefined {
    return this.statement(sql).get(...values) as Record<string, unknown> | undefined;
  }
}

export function versionOf(bucket: number, row: Record<string, unknown>, isLatest: boolean): IndexedVersion {
  return {
    bucket,
    key: textOf(row.key),
    sequence: row.sequence as number,
    versionId: row.version as string,
    ...(row.marker === 1 ? { deleteMarker: true } : {}),
    sizeBytes: row.size as number,
    etag: row.etag as string,
    modifiedAt: row.modified as number,
    owner: row.owner as string,
    ...(row.attributes === null ? {} : { attributes: JSON.parse(row.attributes as string) as Attributes }),
    ...(row.blob === null ? {} : { blob: row.blob as string }),
    ...(row.upload === null
      ? {}
      : { upload: { id: row.upload as string, sequence: row.uploadsequence as number } }),
    isLatest,
    segment: row.segment as number,
    position: row.position as number,
    inlineAt: row.inlineat as number,
    inlineCrc: row.inlinecrc as number,
  };
}

export function uploadOf(row: Record<string, unknown>): UploadRow {
  return {
    bucket: row.bucket as number,
    key: textOf(row.key),
    sequence: row.sequence as number,
    id: row.id as string,
    owner: row.owner as string,
    initiatedAt: row.initiated as number,
    ...(row.attributes === null ? {} : { attributes: JSON.parse(row.attributes as string) as Attributes }),
    ...(row.checksum === null
      ? {}
      : { checksum: JSON.parse(row.checksum as string) as NonNullable<Upload["checksum"]> }),
  };
}

function partOf(row: Record<string, unknown>): PartRow {
  return {
    upload: row.upload as number,
    number: row.number as number,
    sizeBytes: row.size as number,
    etag: row.etag as string,
    modifiedAt: row.modified as number,
    ...(row.checksum === null ? {} : { checksum: row.checksum as string }),
    blob: row.blob as string,
  };
}

export function textOf(bytes: unknown): string {
  const view = bytes as Uint8Array;
  return Buffer.from(view.buffer, view.byteOffset, view.byteLength).toString();
}
