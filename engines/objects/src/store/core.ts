import { hash } from "node:crypto";
import { SkepError } from "@skep/base";
import type { BlobLifetimes } from "../blobs/lifetimes.ts";
import { type BlobWriter, type BodyCheck, checkLength, gather, type WrittenBlob } from "../blobs/write.ts";
import { isFullDisk } from "../commit/committer.ts";
import type { ChangeOf, Kind, OperationOf, Results } from "../commit/operations.ts";
import { fail } from "../errors.ts";
import type { Files } from "../files.ts";
import type { Backend } from "../host/backend.ts";
import type { BucketRow } from "../index/rows.ts";
import type { StorePaths } from "../paths.ts";
import type { Bytes } from "../types.ts";

export interface CoreOptions {
  files: Files;
  paths: StorePaths;
  backend: Backend;
  lifetimes: BlobLifetimes;
  blobs: BlobWriter;
  clock: () => number;
  random: (bytes: number) => Uint8Array;
  inlineBytes: number;
  minimumPartBytes: number;
}

/** What the calls of a store share. */
export class StoreCore {
  readonly files: Files;
  readonly paths: StorePaths;
  readonly backend: Backend;
  readonly lifetimes: BlobLifetimes;
  readonly minimumPartBytes: number;
  readonly inlineBytes: number;
  /** All of them: a bucket is read with every request. */
  readonly buckets = new Map<string, BucketRow>();
  /** Changes that need nothing more from their callers. */
  readonly #underWay = new Set<Promise<unknown>>();
  readonly #blobs: BlobWriter;
  readonly #clock: () => number;
  readonly #random: (bytes: number) => Uint8Array;

  constructor(options: CoreOptions) {
    this.files = options.files;
    this.paths = options.paths;
    this.backend = options.backend;
    this.lifetimes = options.lifetimes;
    this.minimumPartBytes = options.minimumPartBytes;
    this.inlineBytes = options.inlineBytes;
    this.#blobs = options.blobs;
    this.#clock = options.clock;
    this.#random = options.random;
  }

  /** BUCKET_NOT_FOUND. */
  bucket(name: string): BucketRow {
    const row = this.buckets.get(name);
    if (row === undefined) throw fail("BUCKET_NOT_FOUND", { bucket: name });
    return row;
  }

  /** A change of what is in a bucket. The committer knows it by its number; its name is for people. */
  commit<K extends Kind>(bucket: string, change: ChangeOf<K>): Promise<Results[K]> {
    return this.#track(this.#commit(bucket, change));
  }

  async #commit<K extends Kind>(bucket: string, change: ChangeOf<K>): Promise<Results[K]> {
    try {
      return await this.backend.commit<K>({ ...change, now: this.#clock() } as OperationOf<K>);
    } catch (error) {
      if (error instanceof SkepError && error.code === "BUCKET_NOT_FOUND") {
        throw fail("BUCKET_NOT_FOUND", { bucket }, { cause: error });
      }
      throw error;
    }
  }

  /** A small body as it is, a larger one as a blob; and what it has become is committed. */
  storeBody<T>(
    body: Uint8Array | Bytes,
    check: BodyCheck,
    commit: (content: { inline: Uint8Array } | { blob: string }, written: WrittenBlob) => Promise<T>,
  ): Promise<T> {
    const work = this.#storeBody(body, check, commit);
    return body instanceof Uint8Array ? this.#track(work) : work;
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#underWay.add(work);
    const done = () => this.#underWay.delete(work);
    work.then(done, done);
    return work;
  }

  /** When all changes whose bodies are here are answered. */
  async settled(): Promise<void> {
    while (this.#underWay.size > 0) await Promise.allSettled(this.#underWay);
  }

  async #storeBody<T>(
    body: Uint8Array | Bytes,
    check: BodyCheck,
    commit: (content: { inline: Uint8Array } | { blob: string }, written: WrittenBlob) => Promise<T>,
  ): Promise<T> {
    check.signal?.throwIfAborted();
    const small = await this.#smallBody(body, check);
    if (small instanceof Uint8Array) {
      return commit({ inline: small }, { md5: hash("md5", small), sizeBytes: small.length });
    }
    return this.storeBlob(small, check, (blob, written) => commit({ blob }, written));
  }

  /** All of a body that fits the journal, or the body again. */
  #smallBody(body: Uint8Array | Bytes, check: BodyCheck): Uint8Array | Bytes | Promise<Uint8Array | Bytes> {
    if (!(body instanceof Uint8Array)) return gather(body, this.inlineBytes, check);
    checkLength(check, body.length);
    return body.length <= this.inlineBytes ? body : inPieces(body);
  }

  /** A body as a blob, whatever its size. Where anything fails nothing is left of it. */
  async storeBlob<T>(
    body: Uint8Array | Bytes,
    check: BodyCheck,
    commit: (blob: string, written: WrittenBlob) => Promise<T>,
  ): Promise<T> {
    check.signal?.throwIfAborted();
    const name = Buffer.from(this.#random(16)).toString("hex");
    this.lifetimes.beginWriting(name);
    try {
      const pieces = body instanceof Uint8Array ? inPieces(body) : body;
      const written = await this.#blobs.write(name, pieces, check);
      try {
        check.signal?.throwIfAborted();
        return await commit(name, written);
      } catch (error) {
        await this.#blobs.remove(name);
        throw error;
      }
    } catch (error) {
      throw isFullDisk(error) ? fail("STORE_FULL", { path: this.paths.directory }, { cause: error }) : error;
    } finally {
      this.lifetimes.endWriting(name);
    }
  }
}

/** So that checksums and writing take turns with other work. */
async function* inPieces(body: Uint8Array): Bytes {
  for (let at = 0; at < body.length; at += 1024 * 1024) yield body.subarray(at, at + 1024 * 1024);
}

/** A property, or none where its value is undefined. */
export function given<N extends string, T>(name: N, value: T | undefined): { [name in N]?: T } {
  return (value === undefined ? {} : { [name]: value }) as { [name in N]?: T };
}

/** Attributes that are worth a field. */
export function givenAttributes<T extends object>(attributes: T): { attributes?: T } {
  return Object.keys(attributes).length === 0 ? {} : { attributes };
}
