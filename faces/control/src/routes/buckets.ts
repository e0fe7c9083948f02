import {
  Bucket,
  BucketCreate,
  ObjectPage,
  ObjectRemoval,
  Presigned,
  PresignRequest,
} from "@skep/api/schemas";
import { encodeUri, presign } from "@skep/sigv4";
import { Type } from "typebox";
import { type App, answers, type Context } from "../context.ts";
import type { OwnedBucket, StorageEngine } from "../engines.ts";
import { fail } from "../errors.ts";

const tags = ["buckets"];
const bucketParams = Type.Object({ bucket: Type.String() });
const defaultExpiry = 3600;

function viewsOf(storage: StorageEngine, buckets: readonly OwnedBucket[]): Bucket[] {
  const names = new Map(
    storage
      .accounts()
      .accounts()
      .map(({ id, name }) => [id, name]),
  );
  return buckets.map(({ owner, ...rest }) => ({ ...rest, account: names.get(owner) ?? owner }));
}

/** Whom the control API acts as: the bucket's owner, or the first account where that one is gone. */
function actingFor(storage: StorageEngine, owner: string) {
  const accounts = storage.accounts();
  return accounts.houseKey(accounts.accounts().some(({ id }) => id === owner) ? owner : accounts.root().id);
}

/** Signs a request for whoever asks; the bytes then go between the client and storaged. */
async function presigned(storage: StorageEngine, request: PresignRequest): Promise<Presigned> {
  const { method, bucket, key, query = {}, headers = {}, expiresInSeconds = defaultExpiry } = request;
  const { owner } = await storage.bucket(bucket);
  const { region, socket } = await storage.status();
  const local = request.endpoint === undefined;
  const base = local ? new URL("http://localhost") : endpointUrl(request.endpoint as string);
  const path = [bucket, ...(key === undefined ? [] : key.split("/"))]
    .map((part) => encodeUri(part))
    .join("/");
  const pairs = Object.entries(query).map(([name, value]) => `${encodeUri(name)}=${encodeUri(value)}`);
  const target = presign(
    {
      method,
      target: `/${path}${pairs.length === 0 ? "" : `?${pairs.join("&")}`}`,
      headers: { ...lowerCase(headers), host: base.host },
    },
    actingFor(storage, owner),
    { region, now: Date.now(), expiresSeconds: expiresInSeconds },
  );
  return {
    url: `${base.origin}${target}`,
    socket: local ? socket : null,
    expiresAt: new Date(Date.now() + expiresInSeconds * 1000).toISOString(),
  };
}

function endpointUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search !== "") {
    throw fail("ENDPOINT_INVALID", { endpoint: text.slice(0, 200) });
  }
  return url;
}

function lowerCase(headers: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

export function bucketRoutes(app: App, { storage }: Context): void {
  app.get(
    "/v1/buckets",
    {
      schema: {
        operationId: "listBuckets",
        tags,
        description: "All accounts' buckets with what they hold.",
        response: answers(200, Type.Array(Bucket)),
      },
    },
    async () => viewsOf(storage, await storage.buckets()),
  );
  app.post(
    "/v1/buckets",
    { schema: { operationId: "createBucket", tags, body: BucketCreate, response: answers(201, Bucket) } },
    async ({ body }, reply) => {
      const accounts = storage.accounts();
      const owner = body.account === undefined ? accounts.root() : accounts.account(body.account);
      checkBucketName(body.name);
      const made = await storage.createBucket(body.name, owner.id);
      reply.code(201);
      return viewsOf(storage, [made])[0] as Bucket;
    },
  );
  app.delete(
    "/v1/buckets/:bucket",
    {
      schema: {
        operationId: "removeBucket",
        tags,
        description: "Refused while it holds anything.",
        params: bucketParams,
        response: answers(204, Type.Null()),
      },
    },
    async ({ params }, reply) => {
      await storage.removeBucket(params.bucket);
      reply.code(204);
      return null;
    },
  );
  app.get(
    "/v1/buckets/:bucket/objects",
    {
      schema: {
        operationId: "listObjects",
        tags,
        description: "One page, in the order of the keys' bytes.",
        params: bucketParams,
        querystring: Type.Object(
          {
            prefix: Type.Optional(Type.String()),
            delimiter: Type.Optional(Type.String()),
            continuation: Type.Optional(Type.String({ description: "`next` of the page before" })),
            limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
          },
          { additionalProperties: false },
        ),
        response: answers(200, ObjectPage),
      },
    },
    ({ params, query }) => {
      const given = Object.entries(query).map(([name, value]) => [name, String(value)]);
      return storage.objects(params.bucket, Object.fromEntries(given));
    },
  );
  app.post(
    "/v1/buckets/:bucket/remove",
    {
      schema: {
        operationId: "removeObjects",
        tags,
        description: "Removes objects, or hides them behind delete markers where the bucket keeps versions.",
        params: bucketParams,
        body: ObjectRemoval,
        response: answers(204, Type.Null()),
      },
    },
    async ({ params, body }, reply) => {
      await storage.removeObjects(params.bucket, body.keys);
      reply.code(204);
      return null;
    },
  );
  app.post(
    "/v1/presign",
    {
      schema: {
        operationId: "presign",
        tags,
        description:
          "A URL with which anyone may make this one S3 request until it expires, as the bucket's owner.",
        body: PresignRequest,
        response: answers(200, Presigned),
      },
    },
    async ({ body }, reply) => {
      reply.header("cache-control", "no-store");
      return presigned(storage, body);
    },
  );
}

/** As S3 asks for: a bucket's name may become a part of a host's. */
function checkBucketName(name: string): void {
  const good =
    /^[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]$/.test(name) && !/\.\.|\.-|-\.|^\d+\.\d+\.\d+\.\d+$/.test(name);
  if (!good) throw fail("BUCKET_NAME_INVALID", { name: name.slice(0, 100) });
}
