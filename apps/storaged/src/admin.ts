import type { ObjectPage, Storage } from "@skep/api/schemas";
import type { JsonRequest, JsonRoute } from "@skep/daemon";
import type { Bucket, BucketStore } from "@skep/objects";
import { type CheckedStore, checkStore } from "./check.ts";
import type { StorageConfig } from "./config.ts";
import type { Metrics } from "./metrics.ts";
import { volumeRoutes } from "./volumes/routes.ts";
import type { Volumes } from "./volumes/volumes.ts";

/** What skepd may ask. It checks what comes from outside; the socket is open to the home's user alone. */
export interface AdminOptions {
  store: CheckedStore;
  volumes: Volumes;
  metrics: Metrics;
  status(): Storage;
  configure(change: Partial<StorageConfig>): Promise<void>;
  shutdown(): void;
}

/** A bucket with its usage; the owner is a canonical id. */
async function describe(store: BucketStore, { name, owner, createdAt, versioning }: Bucket) {
  const { objects, bytes, versions, uploads } = await store.usage(name);
  const created = new Date(createdAt).toISOString();
  return { name, owner, createdAt: created, versioning, objects, bytes, versions, uploads };
}

export function adminRoutes(options: AdminOptions): JsonRoute[] {
  const { store, metrics, volumes } = options;
  return [
    ...volumeRoutes(volumes),
    { method: "GET", path: "/status", handle: () => options.status() },
    {
      method: "PUT",
      path: "/config",
      async handle({ body }) {
        await options.configure(body as Partial<StorageConfig>);
        return options.status();
      },
    },
    { method: "GET", path: "/metrics", handle: () => metrics.text() },
    {
      method: "POST",
      path: "/check",
      handle: ({ body, signal }) => {
        const { forMs } = (body ?? {}) as { forMs?: number };
        return checkStore(store, signal, forMs);
      },
    },
    {
      method: "POST",
      path: "/shutdown",
      handle() {
        options.shutdown();
      },
    },
    {
      method: "GET",
      path: "/buckets",
      handle: async () => Promise.all((await store.buckets()).map((bucket) => describe(store, bucket))),
    },
    {
      method: "POST",
      path: "/buckets",
      async handle({ body }) {
        const { name, owner } = body as { name: string; owner: string };
        return describe(store, await store.createBucket(name, { owner }));
      },
    },
    {
      method: "GET",
      path: "/buckets/:bucket",
      handle: async ({ params }) => describe(store, await store.bucket(bucketOf(params))),
    },
    {
      method: "DELETE",
      path: "/buckets/:bucket",
      handle: ({ params }) => store.deleteBucket(bucketOf(params)),
    },
    { method: "GET", path: "/buckets/:bucket/objects", handle: (request) => listObjects(store, request) },
    {
      method: "POST",
      path: "/buckets/:bucket/remove",
      async handle({ params, body, signal }) {
        const { owner } = await store.bucket(bucketOf(params));
        for (const key of (body as { keys: string[] }).keys) {
          signal.throwIfAborted();
          await store.delete(bucketOf(params), key, { owner });
        }
      },
    },
  ];
}

function bucketOf(params: JsonRequest["params"]): string {
  return params.bucket as string;
}

async function listObjects(store: BucketStore, { params, query, signal }: JsonRequest): Promise<ObjectPage> {
  const given = (name: string) => query.get(name) || undefined;
  const [prefix, delimiter, startAfter] = [given("prefix"), given("delimiter"), given("startAfter")];
  const continuation = given("continuation");
  const page = await store.list(bucketOf(params), {
    limit: Math.min(1000, Number(given("limit") ?? 1000)),
    signal,
    ...(prefix === undefined ? {} : { prefix }),
    ...(delimiter === undefined ? {} : { delimiter }),
    ...(startAfter === undefined ? {} : { startAfter }),
    ...(continuation === undefined ? {} : { continuation }),
  });
  return {
    objects: page.objects.map(({ key, sizeBytes, etag, modifiedAt }) => {
      return { key, sizeBytes, etag, modifiedAt: new Date(modifiedAt).toISOString() };
    }),
    prefixes: page.prefixes,
    next: page.next ?? null,
  };
}
