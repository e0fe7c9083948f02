import { fail } from "./errors.ts";
import { checkKey } from "./keys.ts";
import type {
  Attributes,
  BucketStore,
  ByteRange,
  Bytes,
  Condition,
  Listing,
  ListRequest,
  MultipartUpload,
  ObjectFile,
  ObjectInfo,
  ObjectStore,
  ObjectVersion,
  PutRequest,
  StoredObject,
} from "./types.ts";
import { clampRange } from "./versions.ts";

/** One bucket of a store with many, or what lies below a prefix of it. */
export class BucketObjects implements ObjectStore {
  readonly #store: BucketStore;
  readonly #bucket: string;
  readonly #owner: string;
  readonly #prefix: string;

  constructor(store: BucketStore, bucket: string, options: { owner?: string; prefix?: string }) {
    this.#store = store;
    this.#bucket = bucket;
    this.#owner = options.owner ?? "";
    this.#prefix = options.prefix ?? "";
  }

  async get(
    key: string,
    options: { range?: Partial<ByteRange>; ifMatch?: string; signal?: AbortSignal } = {},
  ): Promise<StoredObject> {
    options.signal?.throwIfAborted();
    const opened = await this.#store.open(this.#bucket, this.#keyOf(key));
    try {
      const { version } = opened;
      if (version.deleteMarker) throw this.#missing(key);
      if (options.ifMatch !== undefined && options.ifMatch !== "*" && options.ifMatch !== version.etag) {
        const why = `its ETag is ${version.etag}`;
        throw fail("PRECONDITION_FAILED", { bucket: this.#bucket, key, why });
      }
      const range = clampRange(options.range, key, version.sizeBytes);
      const body = read();
      return { ...this.#info(version), metadata: version.attributes.metadata ?? {}, range, body };
      async function* read(): Bytes {
        try {
          yield* opened.read(range, options.signal === undefined ? {} : { signal: options.signal });
        } finally {
          await opened[Symbol.asyncDispose]();
        }
      }
    } catch (error) {
      await opened[Symbol.asyncDispose]();
      throw error;
    }
  }

  async head(key: string): Promise<ObjectInfo & { metadata: Record<string, string> }> {
    const version = await this.#store.head(this.#bucket, this.#keyOf(key));
    if (version.deleteMarker) throw this.#missing(key);
    return { ...this.#info(version), metadata: version.attributes.metadata ?? {} };
  }

  async put(key: string, body: Uint8Array | Bytes, request: PutRequest = {}): Promise<ObjectInfo> {
    const { metadata, sizeBytes, signal, ...condition } = request;
    const version = await this.#store.put(this.#bucket, this.#keyOf(key), body, {
      owner: this.#owner,
      condition,
      attributes: attributesOf(metadata),
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
      ...(signal === undefined ? {} : { signal }),
    });
    return this.#info(version);
  }

  async delete(key: string, request: Condition & { signal?: AbortSignal } = {}): Promise<void> {
    const { signal, ...condition } = request;
    signal?.throwIfAborted();
    await this.#store.delete(this.#bucket, this.#keyOf(key), { owner: this.#owner, condition });
  }

  async list(request: ListRequest = {}): Promise<Listing> {
    const { prefix, startAfter, continuation, ...rest } = request;
    const page = await this.#store.list(this.#bucket, {
      ...rest,
      prefix: this.#full(prefix ?? ""),
      ...(startAfter === undefined ? {} : { startAfter: this.#full(startAfter) }),
      ...(continuation === undefined ? {} : { continuation: this.#full(continuation) }),
    });
    return {
      objects: page.objects.map((version) => this.#info(version)),
      prefixes: page.prefixes.map((one) => this.#short(one)),
      ...(page.next === undefined ? {} : { next: this.#short(page.next) }),
    };
  }

  async createUpload(
    key: string,
    options: { metadata?: Record<string, string> } = {},
  ): Promise<MultipartUpload> {
    const full = this.#keyOf(key);
    const { id } = await this.#store.createUpload(this.#bucket, full, {
      owner: this.#owner,
      attributes: attributesOf(options.metadata),
    });
    return {
      id,
      putPart: (number, body, request = {}) =>
        this.#store.putPart(this.#bucket, full, id, number, body, request),
      complete: async (parts, condition) =>
        this.#info(
          await this.#store.completeUpload(
            this.#bucket,
            full,
            id,
            parts,
            condition === undefined ? {} : { condition },
          ),
        ),
      abort: () => this.#store.abortUpload(this.#bucket, full, id),
    };
  }

  async file(key: string): Promise<ObjectFile | undefined> {
    const opened = await this.#store.open(this.#bucket, this.#keyOf(key));
    const { file, version } = opened;
    // Disposing only counts: it is done when the promise is made.
    const release = () => void opened[Symbol.asyncDispose]();
    if (file !== undefined && !version.deleteMarker) return { ...file, release };
    release();
    if (version.deleteMarker) throw this.#missing(key);
    return undefined;
  }

  #keyOf(key: string): string {
    return this.#full(checkKey(key));
  }

  #full(key: string): string {
    return this.#prefix + key;
  }

  #short(key: string): string {
    return key.slice(this.#prefix.length);
  }

  #info({ key, sizeBytes, etag, modifiedAt }: ObjectVersion): ObjectInfo {
    return { key: this.#short(key), sizeBytes, etag, modifiedAt };
  }

  #missing(key: string): Error {
    return fail("OBJECT_NOT_FOUND", { bucket: this.#bucket, key });
  }

  /** The store is its opener's to close. */
  async [Symbol.asyncDispose](): Promise<void> {}
}

function attributesOf(metadata: Record<string, string> | undefined): Attributes {
  return metadata === undefined ? {} : { metadata };
}
