/** The control API's resources of object storage. Times are ISO 8601 in UTC. */
import { type Static, Type } from "typebox";
import { Nullable, strict } from "./parts.ts";

export const Storage = Type.Object(
  {
    running: Type.Boolean({ description: "whether storaged runs" }),
    pid: Nullable(Type.Integer()),
    version: Nullable(Type.String()),
    startedAt: Nullable(Type.String()),
    endpoint: Nullable(Type.String({ description: "URL; null when it is down" })),
    listen: Nullable(Type.String({ description: "HOST:PORT, as asked for" })),
    http: Type.Boolean({ description: "plain HTTP instead of TLS" }),
    domain: Nullable(Type.String({ description: "under which BUCKET.DOMAIN names a bucket" })),
    region: Type.String(),
    accessLog: Type.Boolean(),
    socket: Type.String({ description: "the same over HTTP for this host's user alone" }),
    problem: Nullable(Type.String({ description: "why it does not listen although it is up" })),
    authority: Type.String({ description: "the CA's certificate, PEM" }),
    authorityPath: Type.String({ description: "the file that holds it on skepd's host" }),
  },
  { $id: "Storage" },
);
export type Storage = Static<typeof Storage>;

export const StorageUp = Type.Object(
  {
    listen: Type.Optional(Type.String({ description: "HOST:PORT; the last one, or 127.0.0.1:8443" })),
    http: Type.Optional(Type.Boolean({ description: "plain HTTP instead of TLS" })),
    domain: Type.Optional(Nullable(Type.String({ description: "null forgets it" }))),
    region: Type.Optional(Type.String({ description: "that signatures have to name; at first us-east-1" })),
    accessLog: Type.Optional(Type.Boolean({ description: "a line a request; default true" })),
  },
  { ...strict, $id: "StorageUp" },
);
export type StorageUp = Static<typeof StorageUp>;

export const Account = Type.Object(
  {
    id: Type.String({ description: "canonical id" }),
    number: Type.String({ description: "twelve digits, as in ARNs" }),
    name: Type.String(),
    email: Type.String({ description: "may be empty" }),
    createdAt: Type.String(),
  },
  { $id: "Account" },
);
export type Account = Static<typeof Account>;

export const AccountCreate = Type.Object(
  {
    name: Type.String({ maxLength: 256 }),
    email: Type.Optional(Type.String({ maxLength: 512 })),
    id: Type.Optional(Type.String({ maxLength: 128, description: "canonical id; a new one without" })),
  },
  { ...strict, $id: "AccountCreate" },
);
export type AccountCreate = Static<typeof AccountCreate>;

export const Scope = Type.Object(
  {
    bucket: Type.String({ maxLength: 256 }),
    access: Type.Union([Type.Literal("read"), Type.Literal("write")]),
  },
  { ...strict, $id: "Scope" },
);
export type Scope = Static<typeof Scope>;

export const AccessKey = Type.Object(
  {
    accessKeyId: Type.String(),
    account: Type.String({ description: "its name" }),
    name: Type.String({ description: "may be empty" }),
    scopes: Type.Array(Scope, { description: "empty: all that its account may" }),
    createdAt: Type.String(),
    lastUsedAt: Nullable(Type.String()),
  },
  { $id: "AccessKey" },
);
export type AccessKey = Static<typeof AccessKey>;

export const AccessKeyCreate = Type.Object(
  {
    account: Type.Optional(Type.String({ maxLength: 256, description: "default: the first account" })),
    name: Type.Optional(Type.String({ maxLength: 256 })),
    scopes: Type.Optional(Type.Array(Scope, { maxItems: 1000 })),
    accessKeyId: Type.Optional(Type.String({ maxLength: 256, description: "to take over a known key" })),
    secret: Type.Optional(Type.String({ maxLength: 512 })),
  },
  { ...strict, $id: "AccessKeyCreate" },
);
export type AccessKeyCreate = Static<typeof AccessKeyCreate>;

export const AccessKeyCreated = Type.Object(
  { key: AccessKey, secret: Type.String({ description: "shown once" }) },
  { $id: "AccessKeyCreated" },
);
export type AccessKeyCreated = Static<typeof AccessKeyCreated>;

export const Bucket = Type.Object(
  {
    name: Type.String(),
    account: Type.String({ description: "its owner's name, or id where there is no such account" }),
    createdAt: Type.String(),
    versioning: Type.Union([Type.Literal("off"), Type.Literal("enabled"), Type.Literal("suspended")]),
    objects: Type.Integer(),
    bytes: Type.Integer({ description: "of all versions and parts" }),
    versions: Type.Integer({ description: "delete markers included" }),
    uploads: Type.Integer({ description: "unfinished" }),
  },
  { $id: "Bucket" },
);
export type Bucket = Static<typeof Bucket>;

export const BucketCreate = Type.Object(
  {
    name: Type.String({ maxLength: 256 }),
    account: Type.Optional(Type.String({ maxLength: 256, description: "default: the first account" })),
  },
  { ...strict, $id: "BucketCreate" },
);
export type BucketCreate = Static<typeof BucketCreate>;

export const StoredObject = Type.Object(
  {
    key: Type.String(),
    sizeBytes: Type.Integer(),
    etag: Type.String(),
    modifiedAt: Type.String(),
  },
  { $id: "StoredObject" },
);
export type StoredObject = Static<typeof StoredObject>;

export const ObjectPage = Type.Object(
  {
    objects: Type.Array(StoredObject),
    prefixes: Type.Array(Type.String()),
    next: Nullable(Type.String({ description: "the next page's `continuation`" })),
  },
  { $id: "ObjectPage" },
);
export type ObjectPage = Static<typeof ObjectPage>;

export const ObjectRemoval = Type.Object(
  { keys: Type.Array(Type.String({ maxLength: 4096 }), { minItems: 1, maxItems: 1000 }) },
  { ...strict, $id: "ObjectRemoval" },
);
export type ObjectRemoval = Static<typeof ObjectRemoval>;

/** Any S3 request about a bucket or an object, to be signed as the bucket's owner. */
export const PresignRequest = Type.Object(
  {
    method: Type.Union([
      Type.Literal("GET"),
      Type.Literal("HEAD"),
      Type.Literal("PUT"),
      Type.Literal("POST"),
      Type.Literal("DELETE"),
    ]),
    bucket: Type.String({ maxLength: 256 }),
    key: Type.Optional(Type.String({ maxLength: 4096 })),
    query: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 4096 }))),
    headers: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: 4096 }))),
    expiresInSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 604_800 })),
    endpoint: Type.Optional(Type.String({ maxLength: 512, description: "URL; without, the local socket's" })),
  },
  { ...strict, $id: "PresignRequest" },
);
export type PresignRequest = Static<typeof PresignRequest>;

export const Presigned = Type.Object(
  {
    url: Type.String(),
    socket: Nullable(Type.String({ description: "the Unix socket to send it to" })),
    expiresAt: Type.String(),
  },
  { $id: "Presigned" },
);
export type Presigned = Static<typeof Presigned>;
