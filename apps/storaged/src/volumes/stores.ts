import { createHash } from "node:crypto";
import { hostname } from "node:os";
import { join } from "node:path";
import type { VolumePlace } from "@skep/api/schemas";
import { exists, readVersionedJson, toSkepError, writeVersionedJson } from "@skep/base";
import type { BucketStore, EmbeddedStore, ObjectStore } from "@skep/objects";
import { type KeyWrap, openVolumes, type VolumeStore, volumeResources } from "@skep/volumes";
import { fail } from "../errors.ts";
import type { VolumeRecord } from "./records.ts";
import type { Seals } from "./seals.ts";

const defaultBucket = "skep-volumes";

/** What it takes to reach a bucket elsewhere. */
interface StoreEntry {
  id: string;
  endpoint: string;
  bucket: string;
  region: string;
  accessKeyId: string;
  /** Sealed. */
  secret: string;
  authority: string | null;
  verify: boolean;
}

/** `$SKEP_HOME/stores.json`. */
interface StoresFile {
  version: 1;
  stores: StoreEntry[];
}

export interface StoresOptions {
  path: string;
  /** Where volumes' logs are. */
  directory: string;
  /** Where what was read of other stores is kept. */
  cache: string;
  own: BucketStore & Pick<EmbeddedStore, "objects">;
  /** Whose this host's bucket of volumes is. */
  owner: () => string;
  seals: Seals;
  keys: KeyWrap;
  log(message: string): void;
}

/** The stores in which this host has volumes; each is reached when it is first needed. */
export class Stores implements AsyncDisposable {
  readonly #options: StoresOptions;
  readonly #opened = new Map<string, Promise<{ store: ObjectStore; volumes: VolumeStore }>>();
  /** One bound on memory for the volumes of all stores. */
  readonly #resources = volumeResources();
  #entries: StoreEntry[];

  private constructor(options: StoresOptions, entries: StoreEntry[]) {
    this.#options = options;
    this.#entries = entries;
  }

  static async open(options: StoresOptions): Promise<Stores> {
    const { path } = options;
    if (!(await exists(path))) return new Stores(options, []);
    return new Stores(options, (await readVersionedJson<StoresFile>(path, 1)).stores);
  }

  /** For people. */
  describe({ id, bucket }: VolumeRecord["store"]): { endpoint: string | null; bucket: string } {
    return { endpoint: id === null ? null : (this.#entry(id)?.endpoint ?? "unknown"), bucket };
  }

  #entry(id: string): StoreEntry | undefined {
    return this.#entries.find((entry) => entry.id === id);
  }

  /** The volumes in a store that is known. */
  async volumes(where: VolumeRecord["store"]): Promise<VolumeStore> {
    const key = `${where.id ?? ""} ${where.bucket}`;
    let opened = this.#opened.get(key);
    if (opened === undefined) {
      opened = this.#open(where);
      this.#opened.set(key, opened);
      opened.catch(() => this.#opened.delete(key));
    }
    return (await opened).volumes;
  }

  async #open({ id, bucket }: VolumeRecord["store"]) {
    const store = id === null ? await this.#ownBucket(bucket) : await this.#foreign(id);
    // This host's own store is as near as a cache would be.
    const cache = id === null ? {} : { cacheDirectory: join(this.#options.cache, id) };
    const { directory, keys, log } = this.#options;
    const shared = { directory, host: hostname(), keys, resources: this.#resources, log };
    return { store, volumes: openVolumes({ store, ...shared, ...cache }) };
  }

  async #ownBucket(bucket: string): Promise<ObjectStore> {
    const { own, owner } = this.#options;
    try {
      await own.bucket(bucket);
    } catch (error) {
      if (toSkepError(error).code !== "BUCKET_NOT_FOUND") throw error;
      await own.createBucket(bucket, { owner: owner() });
    }
    return own.objects(bucket, { owner: owner() });
  }

  async #foreign(id: string): Promise<ObjectStore> {
    const entry = this.#entry(id);
    if (entry === undefined) throw fail("STORE_UNKNOWN", { id, path: this.#options.path });
    const secret = this.#options.seals.open(entry.secret, entry.id);
    if (secret === undefined) throw fail("STORE_SECRET", { endpoint: entry.endpoint });
    return foreignStore(entry, secret);
  }

  /**
   * Where a new volume shall be. A store elsewhere is tried before it is remembered: its bucket is made where
   * it is missing, and it must honour the conditions on which volumes' safety rests.
   */
  async choose(place: VolumePlace = {}): Promise<VolumeRecord["store"]> {
    const { endpoint, bucket = defaultBucket } = place;
    if (endpoint === undefined) return { id: null, bucket };
    const { accessKeyId, secret, region = "us-east-1", authority = null, verify = true } = place;
    if (accessKeyId === undefined || secret === undefined) throw fail("STORE_KEYS", { endpoint });
    const url = originOf(endpoint);
    const id = createHash("sha256").update(`${url} ${bucket}`).digest("hex").slice(0, 12);
    const entry: StoreEntry = {
      id,
      endpoint: url,
      bucket,
      region,
      accessKeyId,
      secret: this.#options.seals.close(secret, id),
      authority,
      verify,
    };
    await using store = await foreignStore(entry, secret);
    await store.ensureBucket();
    await store.requireConditions();
    if (!this.#isKnown(entry, secret)) await this.#remember(entry);
    return { id, bucket };
  }

  #isKnown(entry: StoreEntry, secret: string): boolean {
    const known = this.#entry(entry.id);
    if (known === undefined || this.#options.seals.open(known.secret, known.id) !== secret) return false;
    return JSON.stringify({ ...known, secret }) === JSON.stringify({ ...entry, secret });
  }

  /** Newer keys of a bucket replace the older ones, but for volumes that are open. */
  async #remember(entry: StoreEntry): Promise<void> {
    const entries = [...this.#entries.filter(({ id }) => id !== entry.id), entry];
    await writeVersionedJson<StoresFile>(this.#options.path, { version: 1, stores: entries });
    this.#entries = entries;
    this.#opened.delete(`${entry.id} ${entry.bucket}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const opened of this.#opened.values()) {
      const { store } = await opened;
      await store[Symbol.asyncDispose]();
    }
  }
}

function originOf(endpoint: string): string {
  const url = URL.parse(endpoint);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw fail("STORE_ENDPOINT", { endpoint: endpoint.slice(0, 200) });
  }
  return url.origin;
}

/** Its SDK is large, and most hosts never need it. */
async function foreignStore(entry: StoreEntry, secret: string) {
  const { ForeignStore } = await import("@skep/objects/foreign");
  const { endpoint, region, bucket, accessKeyId, authority, verify } = entry;
  return new ForeignStore({
    endpoint,
    region,
    bucket,
    verify,
    credentials: { accessKeyId, secret },
    ...(authority === null ? {} : { ca: authority }),
  });
}
