import { randomBytes } from "node:crypto";
import { type Digester, LocalDigester } from "./blobs/digest.ts";
import { BlobLifetimes } from "./blobs/lifetimes.ts";
import { BlobWriter } from "./blobs/write.ts";
import { BucketObjects } from "./bucket-objects.ts";
import { isFullDisk } from "./commit/committer.ts";
import { disk } from "./disk.ts";
import { fail } from "./errors.ts";
import type { Files } from "./files.ts";
import { ThreadDigester } from "./host/digester.ts";
import type { ThreadData } from "./host/messages.ts";
import { type IndexSource, openLocal } from "./host/open.ts";
import { indexFile, openCommitter } from "./host/store-files.ts";
import { ThreadsBackend } from "./host/threads.ts";
import { bucketOf } from "./index/rows.ts";
import type { Synchronous } from "./index/schema.ts";
import { lockStore } from "./lock.ts";
import { storePaths } from "./paths.ts";
import type { Recovery } from "./recover.ts";
import * as buckets from "./store/buckets.ts";
import { type CheckOptions, checkStore, type Finding } from "./store/check.ts";
import { StoreCore } from "./store/core.ts";
import * as objects from "./store/objects.ts";
import * as uploads from "./store/uploads.ts";
import { sweepBlobs } from "./sweep.ts";
import type { BucketStore, ObjectStore } from "./types.ts";

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
  /** Removes what a crash has left of blobs, in the background; default true. */
  sweepOnOpen?: boolean;
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
  readonly #core: StoreCore;
  readonly #blobs: BlobWriter;
  readonly #digester: Digester;
  readonly #lock: Disposable | undefined;
  readonly #unlinking: Set<Promise<void>>;
  readonly #stopSweeping = new AbortController();
  #sweeping: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;

  private constructor(given: {
    core: StoreCore;
    blobs: BlobWriter;
    digester: Digester;
    lock: Disposable | undefined;
    unlinking: Set<Promise<void>>;
  }) {
    this.#core = given.core;
    this.#blobs = given.blobs;
    this.#digester = given.digester;
    this.#lock = given.lock;
    this.#unlinking = given.unlinking;
  }

  /** STORE_LOCKED, STORE_DAMAGED, STORE_FULL, FILE_VERSION. */
  static async open(options: EmbeddedOptions): Promise<EmbeddedStore> {
    const paths = storePaths(options.directory);
    const { log = () => undefined, clock = Date.now, random = randomBytes, files = disk } = options;
    const settings = { ...defaults, ...options };
    const lock = options.files === undefined ? lockStore(paths) : undefined;
    const digester = isLocal(options) ? new LocalDigester() : new ThreadDigester();
    const blobs = new BlobWriter(files, paths, digester);
    const unlinking = new Set<Promise<void>>();
    const lifetimes = new BlobLifetimes((name) => unlink(blobs, name, unlinking, log));
    const onRemoved = (names: string[]) => lifetimes.remove(names);
    try {
      const backend = isLocal(options)
        ? openLocal({ ...settings, files, paths, random, onRemoved, log })
        : await ThreadsBackend.open(threadData(settings), { onRemoved, log });
      const { rebuilt, recovery } = backend.opened;
      if (rebuilt !== undefined) log(`the index was made anew from the journal: ${rebuilt}`);
      if (recovery.tornBytes > 0) log(`${recovery.tornBytes} bytes that a crash had torn were cut off`);
      const { inlineBytes, minimumPartBytes } = settings;
      const sizes = { inlineBytes, minimumPartBytes };
      const core = new StoreCore({ files, paths, backend, lifetimes, blobs, clock, random, ...sizes });
      for (const row of await backend.read({ kind: "buckets" })) core.buckets.set(row.name, row);
      const store = new EmbeddedStore({ core, blobs, digester, lock, unlinking });
      if (options.sweepOnOpen !== false) store.#sweepInBackground(log);
      return store;
    } catch (error) {
      lock?.[Symbol.dispose]();
      throw isFullDisk(error) ? fail("STORE_FULL", { path: paths.directory }, { cause: error }) : error;
    }
  }

  /**
   * Makes the index of a closed store anew from its journal. With `salvage` what cannot be read of the
   * journal is left out and told; without, it is STORE_DAMAGED.
   */
  static rebuild(options: { directory: string; salvage?: boolean }): Recovery {
    const paths = storePaths(options.directory);
    using _lock = lockStore(paths);
    const source = indexFile(paths.index, "full");
    source.discard();
    const given = { files: disk, paths, source, random: randomBytes, log: () => undefined };
    const opened = openCommitter(given, { ...defaults, salvage: options.salvage ?? false });
    opened.close();
    return opened.recovery;
  }

  createBucket: BucketStore["createBucket"] = (name, bucket) =>
    buckets.createBucket(this.#core, name, bucket);

  bucket: BucketStore["bucket"] = async (name) => bucketOf(this.#core.bucket(name));

  buckets: BucketStore["buckets"] = async (request = {}) => buckets.listBuckets(this.#core, request);

  updateBucket: BucketStore["updateBucket"] = (name, change) =>
    buckets.updateBucket(this.#core, name, change);

  deleteBucket: BucketStore["deleteBucket"] = (name) => buckets.deleteBucket(this.#core, name);

  usage: BucketStore["usage"] = (bucket) => buckets.usageOf(this.#core, bucket);

  put: BucketStore["put"] = (bucket, key, body, request) =>
    objects.putObject(this.#core, bucket, key, body, request);

  head: BucketStore["head"] = (bucket, key, versionId) =>
    objects.headObject(this.#core, bucket, key, versionId);

  open: BucketStore["open"] = (bucket, key, versionId) =>
    objects.openObject(this.#core, bucket, key, versionId);

  setAttributes: BucketStore["setAttributes"] = (bucket, key, versionId, change) =>
    objects.setAttributes(this.#core, bucket, key, versionId, change);

  delete: BucketStore["delete"] = (bucket, key, request) =>
    objects.deleteObject(this.#core, bucket, key, request);

  list: BucketStore["list"] = (bucket, request = {}) => objects.listObjects(this.#core, bucket, request);

  listVersions: BucketStore["listVersions"] = (bucket, request = {}) =>
    objects.listVersions(this.#core, bucket, request);

  createUpload: BucketStore["createUpload"] = (bucket, key, upload) =>
    uploads.createUpload(this.#core, bucket, key, upload);

  upload: BucketStore["upload"] = async (bucket, key, id) =>
    uploads.uploadInfo(bucket, await uploads.findUpload(this.#core, bucket, key, id));

  putPart: BucketStore["putPart"] = (bucket, key, id, number, body, request = {}) =>
    uploads.putPart(this.#core, bucket, key, id, number, body, request);

  parts: BucketStore["parts"] = (bucket, key, id, request = {}) =>
    uploads.listParts(this.#core, bucket, key, id, request);

  completeUpload: BucketStore["completeUpload"] = (bucket, key, id, parts, request = {}) =>
    uploads.completeUpload(this.#core, bucket, key, id, parts, request);

  abortUpload: BucketStore["abortUpload"] = (bucket, key, id) =>
    uploads.abortUpload(this.#core, bucket, key, id);

  uploads: BucketStore["uploads"] = (bucket, request = {}) =>
    uploads.listUploads(this.#core, bucket, request);

  objects(bucket: string, options: { owner?: string; prefix?: string } = {}): ObjectStore {
    return new BucketObjects(this, bucket, options);
  }

  /** Removes blobs that nothing points to: left by a crash between writing and committing them. */
  async sweep(options: { signal?: AbortSignal } = {}): Promise<{ removed: number }> {
    const { files, paths, lifetimes, backend } = this.#core;
    return sweepBlobs(
      {
        files,
        paths,
        isKnown: (name) => lifetimes.isKnown(name),
        inIndex: (names) => backend.read({ kind: "knownBlobs", names }),
        remove: (name) => this.#blobs.remove(name),
      },
      options.signal,
    );
  }

  #sweepInBackground(log: (message: string) => void): void {
    const { signal } = this.#stopSweeping;
    this.#sweeping = this.sweep({ signal }).then(
      ({ removed }) => removed > 0 && log(`${removed} files that a crash had left were removed`),
      (error: Error) => signal.aborted || log(`what a crash has left could not be removed: ${error.message}`),
    );
  }

  /** What is damaged, missing or left over. The store stays in use meanwhile. */
  check(options: CheckOptions = {}): AsyncIterable<Finding> {
    return checkStore(this.#core, options);
  }

  /**
   * Waits for what was begun, then gives the directory free. A body still on its way is not waited for:
   * its put fails.
   */
  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#stopSweeping.abort();
      await this.#sweeping;
      await this.#core.settled();
      await this.#core.backend[Symbol.asyncDispose]();
      await this.#digester[Symbol.asyncDispose]();
      await Promise.all(this.#unlinking);
      this.#lock?.[Symbol.dispose]();
    })();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** One that cannot be unlinked is an orphan, and is swept later. */
function unlink(
  blobs: BlobWriter,
  name: string,
  unlinking: Set<Promise<void>>,
  log: (message: string) => void,
): void {
  const work = blobs
    .remove(name)
    .catch((error: unknown) => log(`could not remove the blob ${name}: ${(error as Error).message}`))
    .finally(() => unlinking.delete(work));
  unlinking.add(work);
}

/** What is injected cannot go to another thread. */
function isLocal({ random, files, index, defer }: EmbeddedOptions): boolean {
  return [random, files, index, defer].some((one) => one !== undefined);
}

function threadData(options: ThreadData["options"] & { directory: string }): ThreadData {
  const { directory, segmentBytes, minimumPartBytes, reserveBytes, synchronous } = options;
  return { directory, options: { segmentBytes, minimumPartBytes, reserveBytes, synchronous } };
}
