import type { Attributes, Bucket, Json, Upload, Versioning } from "../types.ts";

/** The rows of the index as the journal writes them. What the index derives from them is not here. */
export interface BucketRow {
  id: number;
  name: string;
  createdAt: number;
  owner: string;
  versioning: Versioning;
  settings: Record<string, Json>;
}

export interface VersionRow {
  bucket: number;
  key: string;
  /** Of the put: versions of a key are ordered by it, the highest is the latest. */
  sequence: number;
  versionId: string;
  deleteMarker?: true;
  sizeBytes: number;
  etag: string;
  modifiedAt: number;
  owner: string;
  attributes?: Attributes;
  /** Where the bytes are: a blob, the parts of an upload, else inline in the record of this row. */
  blob?: string;
  upload?: { id: string; sequence: number };
}

/** As the index gives it to the outside. */
export type IndexedVersionRow = VersionRow & { isLatest: boolean };

export interface UploadRow {
  bucket: number;
  key: string;
  sequence: number;
  id: string;
  owner: string;
  initiatedAt: number;
  attributes?: Attributes;
  checksum?: NonNullable<Upload["checksum"]>;
}

/** A part belongs to its upload, and when that is complete to the version made of it. */
export interface PartRow {
  upload: number;
  number: number;
  sizeBytes: number;
  etag: string;
  modifiedAt: number;
  checksum?: string;
  blob: string;
}

export type PutMutation =
  | { put: "bucket"; row: BucketRow }
  | { put: "version"; row: VersionRow }
  | { put: "upload"; row: UploadRow }
  | { put: "part"; row: PartRow };

export type RemoveMutation =
  | { remove: "bucket"; id: number }
  | { remove: "version"; bucket: number; key: string; sequence: number }
  | { remove: "upload"; bucket: number; key: string; sequence: number }
  | { remove: "part"; upload: number; number: number }
  /** All parts of an upload but those named. */
  | { remove: "parts"; upload: number; but?: number[] };

export type Mutation = PutMutation | RemoveMutation;

/** Which record holds a row. */
export interface Place {
  segment: number;
  position: number;
  /** The row's share of the record's length. */
  weight: number;
  /** Where its inline bytes begin in the segment. */
  inlineAt: number;
  inlineCrc: number;
}

/** The object "null" of S3: the version of a key that was written without versioning. */
export const nullVersion = "null";

export function bucketOf(row: BucketRow): Bucket {
  const { name, createdAt, owner, versioning, settings } = row;
  return { name, createdAt, owner, versioning, settings };
}

/**
 * Ids of versions and uploads: 32 letters safe in URLs. The first eight are the sequence number, so that
 * a version is found without a search; the rest is random, so that ids cannot be guessed.
 */
export function encodeId(sequence: number, random: Uint8Array): string {
  const bytes = Buffer.alloc(24);
  bytes.writeUIntBE(sequence, 0, 6);
  bytes.set(random.subarray(0, 18), 6);
  return bytes.toString("base64url");
}

/** The sequence number in an id, or undefined where it is no id of ours. */
export function sequenceOf(id: string): number | undefined {
  if (!/^[A-Za-z0-9_-]{32}$/.test(id)) return undefined;
  return Buffer.from(id.slice(0, 8), "base64url").readUIntBE(0, 6);
}
