import { hash, randomBytes } from "node:crypto";
import { SkepError } from "@skep/base";
import { BlobLifetimes } from "./blobs/lifetimes.ts";
import { BlobWriter, type BodyCheck, checkLength, gather, type WrittenBlob } from "./blobs/write.ts";
import { BucketObjects } from "./bucket-objects.ts";
import { isFullDisk } from "./commit/committer.ts";
import type { ChangeOf, Kind, OperationOf, Results } from "./commit/operations.ts";
import { partInfo } from "./commit/plan-uploads.ts";
import { disk } from "./disk.ts";
import { fail } from "./errors.ts";
import type { Files } from "./files.ts";
import type { Backend } from "./host/backend.ts";
import type { ThreadData } from "./host/messages.ts";
import { type IndexSource, openLocal } from "./host/open.ts";
import { ThreadsBackend } from "./host/threads.ts";
import { type BucketRow, bucketOf, type IndexedVersionRow, type UploadRow } from "./index/rows.ts";
import type { Synchronous } from "./index/schema.ts";
import { lockStore } from "./lock.ts";
import { type StorePaths, storePaths } from "./paths.ts";
import type { FoundVersion, Page } from "./read/queries.ts";
import { sweepBlobs } from "./sweep.ts";
import type {
  Attributes,
  Bucket,
  BucketStore,
  Bytes,
  CompletedPart,
  DeleteResult,
  Json,
  ListRequest,
  ObjectStore,
  ObjectVersion,
  OpenVersion,
  PartInfo,
  Upload,
  UploadListing,
  Usage,
  Versioning,
  VersionListing,
  VersionListRequest,
  VersionPut,
} from "./types.ts";
import { checkParts, completedEtag } from "./uploads.ts";
import { piecesOf, StoredVersion, versionInfo } from "./versions.ts";

export interface EmbeddedOptions {
  /** Made where it is missing; one process at a time has it open. */
  directory: string;
  /** Milliseconds since 1970. */
  clock?: () => number;
  random?: (bytes: number) => Uint8Array;
  /** Bodies up to this many bytes are kept in the journal, larger ones in a file of their own. */
  inlineBytes?: number;
  /** A segment of the journal is closed when it has this many. */
  segmentBytes?: number;
  /** Of every part but the last. */
  minimumPartBytes?: number;
  /** Puts are refused while the disk has less than this left. */
  reserveBytes?: number;
  /** Of the index: "normal" leaves it to the journal to bring back what a power loss took. */
  synchronous?: Synchronous;
  log?: (message: string) => void;
  files?: Files;
  /** Where the index is instead of in the directory; only without threads. */
  index?: IndexSource;
  /** When waiting operations become a batch; only without threads. */
  defer?: (work: () => void) => void;
}

const defaults = {
  inlineBytes: 128 * 1024,
  segmentBytes: 64 * 1024 * 1024,
  minimumPartBytes: 5 * 1024 * 1024,
  reserveBytes: 64 * 1024 * 1024,
  synchronous: "full",
} as const;

/** Objects in files and an index on this host's disk. What it has acknowledged is on stable storage. */
export class EmbeddedStore implements BucketStore {
  readonly #backend: Backend;
  readonly #files: Files;
  readonly #paths: StorePaths;
  readonly #blobs: BlobWriter;
  readonly #lifetimes: BlobLifetimes;
  readonly #clock: () => number;
  readonly #random: (bytes: number) => Uint8Array;
  readonly #inlineBytes: number;
  readonly #minimumPartBytes: number;
  readonly #log: (message: string) => void;
  readonly #lock: Disposable | undefined;
  readonly #buckets = new Map<string, BucketRow>();
  readonly #unlinking = new Set<Promise<void>>();
  #closing: Promise<void> | undefined;

  private constructor(
    given: Required<
      Pick<EmbeddedOptions, "clock" | "inlineBytes" | "minimumPartBytes" | "random" | "log" | "files">
    > & {
      paths: StorePaths;
      lock: Disposable | undefined;
      backend: Backend;
    },
  ) {
    this.#files = given.files;
    this.#paths = given.paths;
    this.#lock = given.lock;
    this.#clock = given.clock;
    this.#random = given.random;
    this.#inlineBytes = given.inlineBytes;
    this.#minimumPartBytes = given.minimumPartBytes;
    this.#log = given.log;
    this.#blobs = new BlobWriter(given.files, given.paths);
    this.#lifetimes = new BlobLifetimes((name) => this.#unlink(name));
    this.#backend = given.backend;
  }

  /** STORE_LOCKED, STORE_DAMAGED, FILE_VERSION. */
  static async open(options: EmbeddedOptions): Promise<EmbeddedStore> {
    const paths = storePaths(options.directory);
    const lock = options.files === undefined ? lockStore(paths) : undefined;
    const random = options.random ?? randomBytes;
    const settings = { ...defaults, ...options, random, files: options.files ?? disk };
    const log = options.log ?? (() => undefined);
    let lifetimes: BlobLifetimes | undefined;
    const onRemoved = (blobs: string[]) => lifetimes?.remove(blobs);
    try {
      const backend = isLocal(options)
        ? openLocal({ ...settings, paths, log, onRemoved })
        : await ThreadsBackend.open(threadData(settings), { onRemoved, log });
      const store = new EmbeddedStore({
        ...settings,
        clock: options.clock ?? Date.now,
        log,
        paths,
        lock,
        backend,
      });
      lifetimes = store.#lifetimes;
      const { rebuilt, recovery } = store.#backend.opened;
      if (rebuilt !== undefined) log(`the index was made anew from the journal: ${rebuilt}`);
      if (recovery.tornBytes > 0) log(`${recovery.tornBytes} bytes that a crash had torn were cut off`);
      for (const row of await store.#backend.read({ kind: "buckets" })) store.#buckets.set(row.name, row);
      return store;
    } catch (error) {
      lock?.[Symbol.dispose]();
      throw isFullDisk(error) ? fail("STORE_FULL", { path: paths.directory }, { cause: error }) : error;
    }
  }

  // Buckets

  async createBucket(
    name: string,
    bucket: { owner: string; settings?: Record<string, Json> },
  ): Promise<Bucket> {
    const row = await this.#commit({
      kind: "createBucket",
      name,
      owner: bucket.owner,
      settings: bucket.settings ?? {},
    });
    this.#buckets.set(name, row);
    return bucketOf(row);
  }

  async bucket(name: string): Promise<Bucket> {
    return bucketOf(this.#bucket(name));
  }

  async buckets(
    request: { owner?: string; prefix?: string; after?: string; limit?: number } = {},
  ): Promise<Bucket[]> {
    const { owner, prefix = "", after, limit } = request;
    return [...this.#buckets.values()]
      .filter((row) => row.name.startsWith(prefix))
      .filter((row) => owner === undefined || row.owner === owner)
      .filter((row) => after === undefined || row.name > after)
      .sort((one, other) => (one.name < other.name ? -1 : 1))
      .slice(0, limit)
      .map(bucketOf);
  }

  async updateBucket(
    name: string,
    change: { versioning?: Versioning; settings?: Record<string, Json | undefined> },
  ): Promise<Bucket> {
    const bucket = this.#bucket(name).id;
    const row = await this.#inBucket(name, this.#commit({ kind: "updateBucket", bucket, ...change }));
    this.#buckets.set(name, row);
    return bucketOf(row);
  }

  async deleteBucket(name: string): Promise<void> {
    const bucket = this.#bucket(name).id;
    await this.#inBucket(name, this.#commit({ kind: "deleteBucket", bucket }));
    if (this.#buckets.get(name)?.id === bucket) this.#buckets.delete(name);
  }

  async usage(bucket: string): Promise<Usage> {
    const usage = await this.#backend.read({ kind: "usage", bucket: this.#bucket(bucket).id });
    if (usage === undefined) throw fail("BUCKET_NOT_FOUND", { bucket });
    return usage;
  }

  #bucket(name: string): BucketRow {
    const row = this.#buckets.get(name);
    if (row === undefined) throw fail("BUCKET_NOT_FOUND", { bucket: name });
    return row;
  }

  #commit<K extends Kind>(change: ChangeOf<K>): Promise<Results[K]> {
    return this.#backend.commit<K>({ ...change, now: this.#clock() } as OperationOf<K>);
  }

  /** The committer knows a bucket by its number; its name is for people. */
  async #inBucket<T>(name: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof SkepError && error.code === "BUCKET_NOT_FOUND") {
        throw fail("BUCKET_NOT_FOUND", { bucket: name }, { cause: error });
      }
      throw error;
    }
  }

  // Objects

  async put(
    bucket: string,
    key: string,
    body: Uint8Array | Bytes,
    request: VersionPut,
  ): Promise<ObjectVersion> {
    const { id } = this.#bucket(bucket);
    const name = checkKey(key);
    const check: BodyCheck = { key, declared: request.sizeBytes, signal: request.signal };
    const { owner, condition } = request;
    const commit = (content: { inline: Uint8Array } | { blob: string }, { md5, sizeBytes }: WrittenBlob) => {
      const attributes = { ...request.attributes, ...request.verify?.({ md5, sizeBytes }) };
      return this.#commit({
        kind: "put",
        bucket: id,
        key: name,
        owner,
        sizeBytes,
        etag: md5,
        ...content,
        ...given("attributes", Object.keys(attributes).length > 0 ? attributes : undefined),
        ...given("condition", condition),
      });
    };
    const row = await this.#inBucket(
      bucket,
      this.#store(
        body,
        this.#inlineBytes,
        check,
        (inline) => commit({ inline }, measure(inline)),
        (blob, written) => commit({ blob }, written),
      ),
    );
    return versionInfo(row);
  }

  /** Brings a body to the journal's record or to a blob, and commits what it has become. */
  async #store<T>(
    body: Uint8Array | Bytes,
    inlineBytes: number,
    check: BodyCheck,
    commitInline: (body: Uint8Array) => Promise<T>,
    commitBlob: (name: string, written: WrittenBlob) => Promise<T>,
  ): Promise<T> {
    check.signal?.throwIfAborted();
    let pieces: Bytes;
    if (body instanceof Uint8Array) {
      checkLength(check, body.length);
      if (body.length <= inlineBytes) return commitInline(body);
      pieces = only(body);
    } else {
      const gathered = await gather(body, inlineBytes, check);
      if ("whole" in gathered && inlineBytes >= 0) return commitInline(gathered.whole);
      pieces = "whole" in gathered ? only(gathered.whole) : gathered.rest;
    }
    const name = Buffer.from(this.#random(16)).toString("hex");
    this.#lifetimes.beginWriting(name);
    try {
      const written = await this.#blobs.write(name, pieces, check);
      try {
        check.signal?.throwIfAborted();
        return await commitBlob(name, written);
      } catch (error) {
        await this.#blobs.remove(name);
        throw error;
      }
    } catch (error) {
      throw isFullDisk(error) ? fail("STORE_FULL", { path: this.#paths.directory }, { cause: error }) : error;
    } finally {
      this.#lifetimes.endWriting(name);
    }
  }

  async head(bucket: string, key: string, versionId?: string): Promise<ObjectVersion> {
    const { version, parts } = await this.#find(bucket, key, versionId, false);
    return versionInfo(version, parts);
  }

  async open(bucket: string, key: string, versionId?: string): Promise<OpenVersion> {
    const found = await this.#lifetimes.lookUp(
      () => this.#find(bucket, key, versionId, true),
      (found) => piecesOf(found).map(({ blob }) => blob),
    );
    const [files, paths, lifetimes] = [this.#files, this.#paths, this.#lifetimes];
    return new StoredVersion(found, { bucket, files, paths, lifetimes });
  }

  async #find(
    bucket: string,
    key: string,
    versionId: string | undefined,
    bytes: boolean,
  ): Promise<FoundVersion> {
    const found = await this.#backend.read({
      kind: "version",
      bucket: this.#bucket(bucket).id,
      key: key.toWellFormed(),
      bytes,
      ...given("versionId", versionId),
    });
    if (found !== undefined) return found;
    if (versionId === undefined) throw fail("OBJECT_NOT_FOUND", { bucket, key });
    throw fail("VERSION_NOT_FOUND", { bucket, key, versionId });
  }

  async setAttributes(
    bucket: string,
    key: string,
    versionId: string | undefined,
    change: Pick<Attributes, "tags" | "acl">,
  ): Promise<ObjectVersion> {
    const row = await this.#inBucket(
      bucket,
      this.#commit({
        kind: "setAttributes",
        bucket: this.#bucket(bucket).id,
        key: key.toWellFormed(),
        change,
        ...given("versionId", versionId),
      }),
    );
    return versionInfo(row);
  }

  async delete(
    bucket: string,
    key: string,
    request: { owner: string; versionId?: string; condition?: VersionPut["condition"] },
  ): Promise<DeleteResult> {
    return this.#inBucket(
      bucket,
      this.#commit({
        kind: "delete",
        bucket: this.#bucket(bucket).id,
        key: checkKey(key),
        owner: request.owner,
        ...given("versionId", request.versionId),
        ...given("condition", request.condition),
      }),
    );
  }

  async list(
    bucket: string,
    request: ListRequest = {},
  ): Promise<{ objects: ObjectVersion[]; prefixes: string[]; next?: string }> {
    const { signal, ...rest } = request;
    signal?.throwIfAborted();
    const { id } = this.#bucket(bucket);
    const page = await this.#backend.read({ kind: "list", bucket: id, request: rest });
    return {
      objects: page.rows.map((row) => versionInfo(row)),
      prefixes: page.prefixes,
      ...given("next", page.next?.key),
    };
  }

  async listVersions(bucket: string, request: VersionListRequest = {}): Promise<VersionListing> {
    const { id } = this.#bucket(bucket);
    const page = await this.#backend.read({ kind: "versions", bucket: id, request });
    return {
      versions: page.rows.map((row: IndexedVersionRow) => versionInfo(row)),
      prefixes: page.prefixes,
      ...markers(page, "nextVersionMarker"),
    };
  }

  // Uploads

  async createUpload(
    bucket: string,
    key: string,
    upload: { owner: string; attributes?: Attributes; checksum?: Upload["checksum"] },
  ): Promise<Upload> {
    const row = await this.#inBucket(
      bucket,
      this.#commit({
        kind: "createUpload",
        bucket: this.#bucket(bucket).id,
        key: checkKey(key),
        owner: upload.owner,
        ...given("attributes", upload.attributes),
        ...given("checksum", upload.checksum),
      }),
    );
    return uploadInfo(bucket, row);
  }

  async upload(bucket: string, key: string, id: string): Promise<Upload> {
    return uploadInfo(bucket, await this.#upload(bucket, key, id));
  }

  async #upload(bucket: string, key: string, id: string): Promise<UploadRow> {
    const query = { bucket: this.#bucket(bucket).id, key: key.toWellFormed(), id };
    const row = await this.#backend.read({ kind: "upload", ...query });
    if (row === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
    return row;
  }

  async putPart(
    bucket: string,
    key: string,
    id: string,
    number: number,
    body: Uint8Array | Bytes,
    request: Pick<VersionPut, "sizeBytes" | "signal"> & {
      verify?(body: { md5: string; sizeBytes: number }): { checksum?: string } | undefined;
    } = {},
  ): Promise<PartInfo> {
    if (!Number.isInteger(number) || number < 1 || number > 10_000)
      throw fail("PART_INVALID", { number, id });
    const upload = await this.#upload(bucket, key, id);
    const check: BodyCheck = { key, declared: request.sizeBytes, signal: request.signal };
    // A part is a file of its own, however small: a version made of parts then moves with no bytes.
    return this.#store<PartInfo>(
      body,
      -1,
      check,
      () => Promise.reject(new TypeError("a part is never inline")),
      (blob, { md5, sizeBytes }) =>
        this.#commit({
          kind: "putPart",
          bucket: upload.bucket,
          key: upload.key,
          id,
          number,
          sizeBytes,
          etag: md5,
          blob,
          ...given("checksum", request.verify?.({ md5, sizeBytes })?.checksum),
        }),
    );
  }

  async parts(
    bucket: string,
    key: string,
    id: string,
    request: { after?: number; limit?: number } = {},
  ): Promise<{ parts: PartInfo[]; next?: number }> {
    const { sequence } = await this.#upload(bucket, key, id);
    const { after = 0, limit = 1000 } = request;
    if (limit <= 0) return { parts: [] };
    const rows = await this.#backend.read({ kind: "parts", upload: sequence, after, limit: limit + 1 });
    const parts = rows.slice(0, limit).map(partInfo);
    return { parts, ...given("next", rows.length > limit ? parts.at(-1)?.number : undefined) };
  }

  async completeUpload(
    bucket: string,
    key: string,
    id: string,
    parts: CompletedPart[],
    request: {
      condition?: VersionPut["condition"];
      finish?(parts: PartInfo[], upload: Upload): Partial<Attributes> | undefined;
    } = {},
  ): Promise<ObjectVersion> {
    const bucketId = this.#bucket(bucket).id;
    const name = key.toWellFormed();
    for (;;) {
      const upload = await this.#backend.read({ kind: "upload", bucket: bucketId, key: name, id });
      if (upload === undefined) {
        const before = await this.#backend.read({ kind: "completed", bucket: bucketId, key: name, id });
        if (before === undefined) throw fail("UPLOAD_NOT_FOUND", { id, key });
        return versionInfo(before.version, before.parts);
      }
      const present = await this.#backend.read({
        kind: "parts",
        upload: upload.sequence,
        after: 0,
        limit: -1,
      });
      const chosen = checkParts(id, present, parts, this.#minimumPartBytes);
      const infos = chosen.map(partInfo);
      const attributes = { ...upload.attributes, ...request.finish?.(infos, uploadInfo(bucket, upload)) };
      const row = await this.#inBucket(
        bucket,
        this.#commit({
          kind: "completeUpload",
          bucket: bucketId,
          key: name,
          id,
          parts: chosen.map(({ number, blob }) => ({ number, blob })),
          sizeBytes: chosen.reduce((sum, part) => sum + part.sizeBytes, 0),
          etag: completedEtag(chosen),
          ...given("attributes", Object.keys(attributes).length > 0 ? attributes : undefined),
          ...given("condition", request.condition),
        }),
      );
      // A part was replaced since it was read: what it is now decides.
      if (row !== "stale") return versionInfo(row, chosen);
    }
  }

  async abortUpload(bucket: string, key: string, id: string): Promise<void> {
    const operation = { bucket: this.#bucket(bucket).id, key: key.toWellFormed(), id };
    await this.#inBucket(bucket, this.#commit({ kind: "abortUpload", ...operation }));
  }

  async uploads(
    bucket: string,
    request: {
      prefix?: string;
      delimiter?: string;
      keyMarker?: string;
      uploadMarker?: string;
      limit?: number;
    } = {},
  ): Promise<UploadListing> {
    const { id } = this.#bucket(bucket);
    const page = await this.#backend.read({ kind: "uploads", bucket: id, request });
    return {
      uploads: page.rows.map((row) => uploadInfo(bucket, row)),
      prefixes: page.prefixes,
      ...markers(page, "nextUploadMarker"),
    };
  }

  objects(bucket: string, options: { owner?: string; prefix?: string } = {}): ObjectStore {
    return new BucketObjects(this, bucket, options);
  }

  /** Removes blobs that nothing points to: left by a crash between writing and committing them. */
  async sweep(options: { signal?: AbortSignal } = {}): Promise<{ removed: number }> {
    return sweepBlobs(
      {
        files: this.#files,
        paths: this.#paths,
        isKnown: (name) => this.#lifetimes.isKnown(name),
        inIndex: (names) => this.#backend.read({ kind: "knownBlobs", names }),
        remove: (name) => this.#blobs.remove(name),
      },
      options.signal,
    );
  }

  #unlink(name: string): void {
    // One that cannot be unlinked is an orphan, and is swept later.
    const unlinking = this.#blobs
      .remove(name)
      .catch((error: unknown) => this.#log(`could not remove ${this.#paths.blob(name)}: ${error}`))
      .finally(() => this.#unlinking.delete(unlinking));
    this.#unlinking.add(unlinking);
  }

  /** Waits for what was begun, then gives the directory free. */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      await this.#backend[Symbol.asyncDispose]();
      await Promise.all(this.#unlinking);
      this.#lock?.[Symbol.dispose]();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** What is injected cannot go to another thread. */
function isLocal({ random, files, index, defer }: EmbeddedOptions): boolean {
  return [random, files, index, defer].some((one) => one !== undefined);
}

function threadData(options: ThreadData["options"] & { directory: string }): ThreadData {
  const { directory, segmentBytes, minimumPartBytes, reserveBytes, synchronous } = options;
  return { directory, options: { segmentBytes, minimumPartBytes, reserveBytes, synchronous } };
}

function checkKey(key: string): string {
  const name = key.toWellFormed();
  const length = Buffer.byteLength(name);
  if (length < 1 || length > 1024) throw fail("KEY_INVALID", { length });
  return name;
}

function measure(body: Uint8Array): WrittenBlob {
  return { md5: hash("md5", body), sizeBytes: body.length };
}

async function* only(body: Uint8Array): Bytes {
  // In pieces, so that checksums and writing take turns with other work.
  for (let at = 0; at < body.length; at += 1024 * 1024) yield body.subarray(at, at + 1024 * 1024);
}

function uploadInfo(bucket: string, row: UploadRow): Upload {
  const { id, key, owner, initiatedAt, attributes, checksum } = row;
  return {
    id,
    bucket,
    key,
    owner,
    initiatedAt,
    attributes: attributes ?? {},
    ...given("checksum", checksum),
  };
}

function markers<N extends string>(
  { next }: Page<unknown>,
  idName: N,
): { truncated: boolean; nextKeyMarker?: string } & { [name in N]?: string } {
  return {
    truncated: next !== undefined,
    ...given("nextKeyMarker", next?.key),
    ...given(idName, next?.id),
  } as { truncated: boolean; nextKeyMarker?: string } & { [name in N]?: string };
}

/** A property, or none where its value is undefined. */
function given<N extends string, T>(name: N, value: T | undefined): { [name in N]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { [name in N]?: T };
}
