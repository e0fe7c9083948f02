/**
 * The two faces of the object store. `ObjectStore` is what volumes, packages and images need of one
 * bucket, wherever it is; three engines have it. `BucketStore` is what an S3 server needs besides:
 * many buckets, versions, uploads that outlive the process, attributes. The embedded engine has both.
 *
 * Keys are any string of 1 to 1,024 bytes of UTF-8 and are ordered by those bytes. ETags are given
 * without quotes. Times are milliseconds since 1970.
 */

/** Bytes as they come: each piece is the receiver's to keep. */
export type Bytes = AsyncIterable<Uint8Array>;

/** Half-open: `start` is the first byte, `end` the one after the last. */
export interface ByteRange {
  start: number;
  end: number;
}

/** What must hold of the present object for a write to happen; checked and written in one step. */
export interface Condition {
  /** An ETag, or "*" for any object. */
  ifMatch?: string;
  /** An ETag, or "*" for none at all. */
  ifNoneMatch?: string;
  /** For deletes: the modification time, to the second, and the size in bytes. */
  ifModifiedAt?: number;
  ifSizeBytes?: number;
}

// ---------------------------------------------------------------------------------------------
// ObjectStore: one bucket

export interface ObjectInfo {
  key: string;
  sizeBytes: number;
  etag: string;
  modifiedAt: number;
}

export interface StoredObject extends ObjectInfo {
  metadata: Record<string, string>;
  /** What of the object `body` holds. */
  range: ByteRange;
  body: Bytes;
}

export interface PutRequest extends Condition {
  metadata?: Record<string, string>;
  /** Of a stream: its length, where it is known; another length is an error. */
  sizeBytes?: number;
  signal?: AbortSignal;
}

export interface ListRequest {
  prefix?: string;
  delimiter?: string;
  /** Keys after this one, in the order of bytes. */
  startAfter?: string;
  /** What an earlier page gave as `next`; opaque. */
  continuation?: string;
  /** At most this many objects and prefixes; 1,000 without. */
  limit?: number;
  signal?: AbortSignal;
}

export interface Listing {
  objects: ObjectInfo[];
  /** Each ends with the delimiter. */
  prefixes: string[];
  /** Where the next page begins; absent on the last one. */
  next?: string;
}

export interface MultipartUpload {
  readonly id: string;
  /** Parts are numbered 1 to 10,000 and have at least 5 MiB, but for the last. */
  putPart(
    number: number,
    body: Uint8Array | Bytes,
    options?: { sizeBytes?: number; signal?: AbortSignal },
  ): Promise<{ etag: string }>;
  complete(parts: { number: number; etag: string }[], condition?: Condition): Promise<ObjectInfo>;
  abort(): Promise<void>;
}

/** One bucket of any S3. A put is durable when it returns; a reader sees one whole object or another. */
export interface ObjectStore extends AsyncDisposable {
  /** OBJECT_NOT_FOUND, RANGE_INVALID, OBJECT_DAMAGED (also while the body is read). */
  get(
    key: string,
    options?: { range?: Partial<ByteRange>; ifMatch?: string; signal?: AbortSignal },
  ): Promise<StoredObject>;
  head(
    key: string,
    options?: { signal?: AbortSignal },
  ): Promise<ObjectInfo & { metadata: Record<string, string> }>;
  /** PRECONDITION_FAILED, BODY_SIZE, STORE_FULL. */
  put(key: string, body: Uint8Array | Bytes, request?: PutRequest): Promise<ObjectInfo>;
  /** No error where there is no such object, unless a condition asks for one. */
  delete(key: string, condition?: Condition & { signal?: AbortSignal }): Promise<void>;
  list(request?: ListRequest): Promise<Listing>;
  createUpload(key: string, options?: { metadata?: Record<string, string> }): Promise<MultipartUpload>;
  /**
   * Where on this host's disk an object's bytes lie in one piece; undefined where they do not. The caller
   * verifies what it reads there. OBJECT_NOT_FOUND.
   */
  file?(key: string): Promise<ObjectFile | undefined>;
}

/** A part of a file that is an object's bytes. The file stays until it is released, whatever is deleted. */
export interface ObjectFile {
  path: string;
  /** Where in the file they begin. */
  offset: number;
  sizeBytes: number;
  release(): void;
}

// ---------------------------------------------------------------------------------------------
// BucketStore: what an S3 server needs

export type Versioning = "off" | "enabled" | "suspended";
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Bucket {
  readonly name: string;
  readonly createdAt: number;
  /** Canonical id of an account. */
  readonly owner: string;
  readonly versioning: Versioning;
  /** The face's own: policy, ACL, tags, CORS, lifecycle, …; kept as it is. */
  readonly settings: Readonly<Record<string, Json>>;
}

/** What an object carries besides its bytes. The engine keeps it as it is. */
export interface Attributes {
  /** Content headers in lower case (`content-type`, `cache-control`, …). */
  headers?: Record<string, string>;
  /** `x-amz-meta-*` without that prefix. */
  metadata?: Record<string, string>;
  tags?: Record<string, string>;
  acl?: Json;
  /** Additional checksum, base64: of the whole object or of its parts' checksums. */
  checksum?: { algorithm: ChecksumAlgorithm; value: string; type: "FULL_OBJECT" | "COMPOSITE" };
}

export type ChecksumAlgorithm = "CRC32" | "CRC32C" | "CRC64NVME" | "SHA1" | "SHA256";

export interface ObjectVersion extends ObjectInfo {
  /** "null" where the bucket had no versioning when it was written. */
  versionId: string;
  isLatest: boolean;
  deleteMarker: boolean;
  owner: string;
  attributes: Attributes;
  /** Of an object that was uploaded in parts, in their order. */
  parts?: PartInfo[];
}

export interface PartInfo {
  number: number;
  sizeBytes: number;
  etag: string;
  modifiedAt: number;
  /** base64, by the upload's algorithm. */
  checksum?: string;
}

/** A version whose bytes can be read; it stays whole while it is open, whatever is written meanwhile. */
export interface OpenVersion extends AsyncDisposable {
  readonly version: ObjectVersion;
  /**
   * Verified block by block: OBJECT_DAMAGED where the bytes are not those that were written. With `lend`
   * the pieces are not the receiver's: their memory is used again when the second one after is asked for.
   */
  read(range?: ByteRange, options?: { signal?: AbortSignal; lend?: boolean }): Bytes;
  /** The whole object at once where it is small and at hand already; verified. */
  readonly inline?: Uint8Array;
  /** Where its bytes lie in one file, unverified, while it is open. */
  readonly file?: Omit<ObjectFile, "release">;
}

export interface VersionPut {
  owner: string;
  attributes?: Attributes;
  condition?: Condition;
  /** The declared length; BODY_SIZE where the body has another. */
  sizeBytes?: number;
  /**
   * Called once with the MD5 (hex) and length when all bytes are there and nothing is visible yet:
   * compares digests, may give attributes known only now, and undoes the put by throwing.
   */
  verify?(body: { md5: string; sizeBytes: number }): Partial<Attributes> | undefined;
  signal?: AbortSignal;
}

export interface Upload {
  id: string;
  bucket: string;
  key: string;
  owner: string;
  initiatedAt: number;
  attributes: Attributes;
  /** What the parts' checksums are, where the upload has any. */
  checksum?: { algorithm: ChecksumAlgorithm; type: "FULL_OBJECT" | "COMPOSITE" };
}

export interface CompletedPart {
  number: number;
  etag: string;
  checksum?: string;
}

export interface VersionListRequest {
  prefix?: string;
  delimiter?: string;
  /** Exclusive: keys (and prefixes made of them) after this. */
  keyMarker?: string;
  /** With `keyMarker`: versions of that key after (older than) this one. */
  versionMarker?: string;
  limit?: number;
}

export interface VersionListing {
  versions: ObjectVersion[];
  prefixes: string[];
  truncated: boolean;
  nextKeyMarker?: string;
  nextVersionMarker?: string;
}

export interface UploadListing {
  uploads: Upload[];
  prefixes: string[];
  truncated: boolean;
  nextKeyMarker?: string;
  nextUploadMarker?: string;
}

export interface Usage {
  objects: number;
  bytes: number;
  /** All versions together, delete markers included. */
  versions: number;
  uploads: number;
}

export interface DeleteResult {
  /** Whether what was made, or what was removed, is a delete marker. */
  deleteMarker: boolean;
  /** Of the marker that was made, or of the version that was removed. */
  versionId?: string;
}

export interface BucketStore extends AsyncDisposable {
  /** BUCKET_EXISTS (its `owner` in the error's details). */
  createBucket(name: string, bucket: { owner: string; settings?: Record<string, Json> }): Promise<Bucket>;
  /** BUCKET_NOT_FOUND. Served from memory. */
  bucket(name: string): Promise<Bucket>;
  buckets(request?: { owner?: string; prefix?: string; after?: string; limit?: number }): Promise<Bucket[]>;
  /** Each setting is replaced, or removed where it is undefined. Durable when it returns. */
  updateBucket(
    name: string,
    change: { versioning?: Versioning; settings?: Record<string, Json | undefined> },
  ): Promise<Bucket>;
  /** BUCKET_NOT_EMPTY while it has versions or markers; its unfinished uploads are aborted. */
  deleteBucket(name: string): Promise<void>;
  usage(bucket: string): Promise<Usage>;

  /** Durable when it returns: an overwrite replaces the whole object at once. */
  put(bucket: string, key: string, body: Uint8Array | Bytes, request: VersionPut): Promise<ObjectVersion>;
  /** The latest version, or the one named; a delete marker too (`deleteMarker`). OBJECT_NOT_FOUND, VERSION_NOT_FOUND. */
  head(bucket: string, key: string, versionId?: string): Promise<ObjectVersion>;
  /** As `head`, with its bytes; for a delete marker `read` gives nothing. */
  open(bucket: string, key: string, versionId?: string): Promise<OpenVersion>;
  /** Changes tags or ACL of a version in place; an attribute given as undefined goes. */
  setAttributes(
    bucket: string,
    key: string,
    versionId: string | undefined,
    change: Pick<Attributes, "tags" | "acl">,
  ): Promise<ObjectVersion>;
  delete(
    bucket: string,
    key: string,
    request: { owner: string; versionId?: string; condition?: Condition },
  ): Promise<DeleteResult>;
  /** Latest versions that are no delete markers. `continuation` is a key or a prefix after which to go on. */
  list(
    bucket: string,
    request?: ListRequest,
  ): Promise<{ objects: ObjectVersion[]; prefixes: string[]; next?: string }>;
  listVersions(bucket: string, request?: VersionListRequest): Promise<VersionListing>;

  createUpload(
    bucket: string,
    key: string,
    upload: { owner: string; attributes?: Attributes; checksum?: Upload["checksum"] },
  ): Promise<Upload>;
  /** UPLOAD_NOT_FOUND, also where bucket or key are not the upload's. */
  upload(bucket: string, key: string, id: string): Promise<Upload>;
  /** A part with the same number is replaced. */
  putPart(
    bucket: string,
    key: string,
    id: string,
    number: number,
    body: Uint8Array | Bytes,
    request?: Pick<VersionPut, "sizeBytes" | "signal"> & {
      verify?(body: { md5: string; sizeBytes: number }): { checksum?: string } | undefined;
    },
  ): Promise<PartInfo>;
  parts(
    bucket: string,
    key: string,
    id: string,
    request?: { after?: number; limit?: number },
  ): Promise<{ parts: PartInfo[]; next?: number }>;
  /**
   * PART_INVALID, PART_ORDER, PART_TOO_SMALL, PRECONDITION_FAILED. No data is copied. `finish` is given
   * the parts and says the object's checksum. Repeating a completed upload gives the same version again.
   */
  completeUpload(
    bucket: string,
    key: string,
    id: string,
    parts: CompletedPart[],
    request?: {
      condition?: Condition;
      finish?(parts: PartInfo[], upload: Upload): Partial<Attributes> | undefined;
    },
  ): Promise<ObjectVersion>;
  abortUpload(bucket: string, key: string, id: string): Promise<void>;
  uploads(
    bucket: string,
    request?: {
      prefix?: string;
      delimiter?: string;
      keyMarker?: string;
      uploadMarker?: string;
      limit?: number;
    },
  ): Promise<UploadListing>;

  /** One bucket through the small interface; with a prefix, only what lies below it, named without it. */
  objects(bucket: string, options?: { owner?: string; prefix?: string }): ObjectStore;
}
