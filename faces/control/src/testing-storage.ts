/** Object storage and volumes without storaged. */
import { join } from "node:path";
import { type Accounts, openAccounts } from "@skep/accounts";
import type { Storage, StorageUp } from "@skep/api/schemas";
import { SkepError } from "@skep/base";
import type { OwnedBucket, StorageEngine, VolumeEngine } from "./engines.ts";

/** Buckets without storaged: names and owners, nothing in them. */
export class MapStorage implements StorageEngine {
  readonly #home: string;
  readonly #buckets = new Map<string, OwnedBucket>();
  #accounts: Accounts | undefined;
  #status: Storage;

  constructor(home: string) {
    this.#home = home;
    this.#status = {
      running: false,
      pid: null,
      version: null,
      startedAt: null,
      endpoint: null,
      listen: null,
      http: false,
      domain: null,
      region: "us-east-1",
      accessLog: true,
      socket: join(home, "s3.sock"),
      problem: null,
      authority: "",
      authorityPath: join(home, "tls/ca.pem"),
    };
  }

  accounts(): Accounts {
    this.#accounts ??= openAccounts({ home: this.#home });
    return this.#accounts;
  }

  async status(): Promise<Storage> {
    return this.#status;
  }

  async start(): Promise<void> {}

  async up({ listen = "127.0.0.1:8443", ...request }: StorageUp): Promise<Storage> {
    this.#status = { ...this.#status, ...request, running: true, listen, endpoint: `https://${listen}` };
    return this.#status;
  }

  async down(): Promise<Storage> {
    this.#status = { ...this.#status, running: false, listen: null, endpoint: null };
    return this.#status;
  }

  async buckets(): Promise<OwnedBucket[]> {
    return [...this.#buckets.values()];
  }

  async bucket(name: string): Promise<OwnedBucket> {
    const bucket = this.#buckets.get(name);
    if (bucket === undefined) {
      throw new SkepError("BUCKET_NOT_FOUND", `bucket "${name}" does not exist`, { status: 404 });
    }
    return bucket;
  }

  async createBucket(name: string, owner: string): Promise<OwnedBucket> {
    const createdAt = new Date(0).toISOString();
    const usage = { objects: 0, bytes: 0, versions: 0, uploads: 0 };
    const bucket: OwnedBucket = { name, owner, createdAt, versioning: "off", ...usage };
    this.#buckets.set(name, bucket);
    return bucket;
  }

  async removeBucket(name: string): Promise<void> {
    await this.bucket(name);
    this.#buckets.delete(name);
  }

  async objects() {
    return { objects: [], prefixes: [], next: null };
  }

  async removeObjects(): Promise<void> {}

  async metrics(): Promise<string> {
    return "skep_test 1\n";
  }

  async doctor() {
    return [];
  }
}

async function noVolume(): Promise<never> {
  throw new SkepError("VOLUME_NOT_FOUND", "there are no volumes here", { status: 404 });
}

/** None, and none can be made. */
export const noVolumes: VolumeEngine = {
  list: async () => [],
  get: noVolume,
  create: noVolume,
  adopt: noVolume,
  edit: noVolume,
  resize: noVolume,
  takeOver: noVolume,
  remove: noVolume,
  snapshot: noVolume,
  removeSnapshot: noVolume,
  clone: noVolume,
  collectGarbage: noVolume,
  check: noVolume,
  import: noVolume,
  export: noVolume,
  doctor: async () => [],
};
