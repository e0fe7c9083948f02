import type { BucketRow, IndexedVersionRow, UploadRow } from "../index/rows.ts";
import type { Attributes, Condition, DeleteResult, Json, PartInfo, Upload, Versioning } from "../types.ts";

/** What the main thread asks of the committer; plain data, for it may travel to another thread. */
export type Operation = Change & {
  /** When it was asked for. */
  now: number;
};

type Change =
  | { kind: "createBucket"; name: string; owner: string; settings: Record<string, Json> }
  | {
      kind: "updateBucket";
      bucket: number;
      versioning?: Versioning;
      settings?: Record<string, Json | undefined>;
    }
  | { kind: "deleteBucket"; bucket: number }
  | PutOperation
  | {
      kind: "delete";
      bucket: number;
      key: string;
      owner: string;
      versionId?: string;
      condition?: Condition;
    }
  | {
      kind: "setAttributes";
      bucket: number;
      key: string;
      versionId?: string;
      change: Pick<Attributes, "tags" | "acl">;
    }
  | {
      kind: "createUpload";
      bucket: number;
      key: string;
      owner: string;
      attributes?: Attributes;
      checksum?: Upload["checksum"];
    }
  | PutPartOperation
  | CompleteOperation
  | { kind: "abortUpload"; bucket: number; key: string; id: string };

export interface PutOperation {
  kind: "put";
  bucket: number;
  key: string;
  owner: string;
  sizeBytes: number;
  etag: string;
  attributes?: Attributes;
  condition?: Condition;
  /** Either of them. */
  inline?: Uint8Array;
  blob?: string;
}

export interface PutPartOperation {
  kind: "putPart";
  bucket: number;
  key: string;
  id: string;
  number: number;
  sizeBytes: number;
  etag: string;
  checksum?: string;
  blob: string;
}

export interface CompleteOperation {
  kind: "completeUpload";
  bucket: number;
  key: string;
  id: string;
  /** As they were read before: a part that was replaced since makes the result `stale`. */
  parts: { number: number; blob: string }[];
  sizeBytes: number;
  etag: string;
  attributes?: Attributes;
  condition?: Condition;
}

/** What each kind of operation gives. */
export interface Results {
  createBucket: BucketRow;
  updateBucket: BucketRow;
  deleteBucket: undefined;
  put: IndexedVersionRow;
  delete: DeleteResult;
  setAttributes: IndexedVersionRow;
  createUpload: UploadRow;
  putPart: PartInfo;
  completeUpload: IndexedVersionRow | "stale";
  abortUpload: undefined;
}

export type Kind = Operation["kind"];
export type OperationOf<K extends Kind> = Extract<Operation, { kind: K }>;
/** As it is asked for; whoever passes it on says when. */
export type ChangeOf<K extends Kind> = Extract<Change, { kind: K }>;
