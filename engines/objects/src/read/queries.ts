import { type IndexedVersion, textOf } from "../index/queries.ts";
import type { BucketRow, PartRow, UploadRow } from "../index/rows.ts";
import type { ListRequest, Usage, VersionListRequest } from "../types.ts";

/** What the main thread asks of the reader; plain data, for it may travel to another thread. */
export type Query =
  | { kind: "buckets" }
  | { kind: "usage"; bucket: number }
  | { kind: "version"; bucket: number; key: string; versionId?: string; bytes: boolean }
  | { kind: "list"; bucket: number; request: Omit<ListRequest, "signal"> }
  | { kind: "versions"; bucket: number; request: VersionListRequest }
  | { kind: "upload"; bucket: number; key: string; id: string }
  | { kind: "parts"; upload: number; after: number; limit: number }
  | { kind: "completed"; bucket: number; key: string; id: string }
  | { kind: "uploads"; bucket: number; request: UploadListRequest }
  | { kind: "knownBlobs"; names: string[] }
  | { kind: "checkRecords"; places: RecordPlace[] }
  | { kind: "checkSegment"; segment: number };

/** What the index says of a version's record. */
export interface RecordPlace
  extends Pick<
    IndexedVersion,
    "bucket" | "key" | "sequence" | "etag" | "segment" | "position" | "inlineAt" | "inlineCrc"
  > {
  isInline: boolean;
}

export interface JournalDamage {
  segment: number;
  position: number;
  bytes: number;
}

export interface UploadListRequest {
  prefix?: string;
  delimiter?: string;
  keyMarker?: string;
  uploadMarker?: string;
  limit?: number;
}

export interface FoundVersion {
  version: IndexedVersion;
  parts?: PartRow[];
  /** Of a small object, verified; undefined where they were not asked for. */
  inline?: Uint8Array;
  /** They were asked for and are not those that were written. */
  damage?: string;
}

/** A latest version as a listing has it: key, key's bytes where it has a NUL, version id, … as in the index. */
export type ListedRow = [
  key: string,
  keyBytes: Uint8Array | null,
  versionId: string,
  sizeBytes: number,
  etag: string,
  modifiedAt: number,
  owner: string,
  attributes: string | null,
];

export function listedKey([key, bytes]: ListedRow): string {
  return bytes === null ? key : textOf(bytes);
}

export interface Page<T> {
  rows: T[];
  prefixes: string[];
  /** The last key or prefix given, where there is more. */
  next?: { key: string; id?: string };
}

export interface Findings {
  buckets: BucketRow[];
  usage: Usage | undefined;
  version: FoundVersion | undefined;
  list: Page<ListedRow>;
  versions: Page<IndexedVersion>;
  upload: UploadRow | undefined;
  parts: PartRow[];
  completed: FoundVersion | undefined;
  uploads: Page<UploadRow>;
  knownBlobs: boolean[];
  /** For each what is wrong with it. */
  checkRecords: (string | undefined)[];
  checkSegment: JournalDamage[];
}

export type QueryKind = Query["kind"];
export type QueryOf<K extends QueryKind> = Extract<Query, { kind: K }>;
