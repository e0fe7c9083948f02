import { randomUUID } from "node:crypto";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  type PutObjectCommandInput,
} from "@aws-sdk/client-s3";
import { SkepError } from "@skep/base";
import { fail } from "../errors.ts";
import { checkKey } from "../keys.ts";
import type {
  ByteRange,
  Bytes,
  Condition,
  Listing,
  ListRequest,
  MultipartUpload,
  ObjectInfo,
  ObjectStore,
  PutRequest,
  StoredObject,
} from "../types.ts";
import { gather, inPieces } from "./bodies.ts";
import { type ConditionalWrite, Conditions } from "./conditions.ts";
import { Connection, type ForeignOptions, plain, Refused } from "./connection.ts";
import { readObject } from "./read.ts";
import { ForeignUpload } from "./upload.ts";
import { aborting, infoOf, quote, shown, streamed, tokenName, unquote, unsignedBody } from "./wire.ts";

/** The largest object that one request may carry. */
const maxPutBytes = 5 * 1024 ** 3;

/**
 * A bucket of any S3 endpoint. Bodies stream, with two parts in memory at most; what fails on the way
 * is tried again, and a write that was carried out twice counts once. `modifiedAt` of what was just
 * written is this host's clock.
 */
export class ForeignStore implements ObjectStore {
  readonly #connection: Connection;
  readonly #conditions: Conditions;
  readonly #prefix: string;
  readonly #partBytes: number;

  constructor(options: ForeignOptions) {
    this.#connection = new Connection(options);
    this.#prefix = options.prefix ?? "";
    this.#partBytes = options.partBytes ?? 8 * 1024 * 1024;
    this.#conditions = new Conditions(this.#connection, this.#prefix);
  }

  /** Whether the endpoint honours a kind of conditional write; tried out at the first time. */
  honours(write: ConditionalWrite): Promise<boolean> {
    return this.#conditions.honours(write);
  }

  /** Makes the bucket where it is missing. */
  async ensureBucket(options: { signal?: AbortSignal } = {}): Promise<void> {
    const { client, bucket: Bucket } = this.#connection;
    try {
      await this.list({ limit: 1, ...options });
    } catch (error) {
      if (codeOf(error) !== "BUCKET_NOT_FOUND") throw error;
      const create = new CreateBucketCommand({ Bucket });
      await this.#connection.ask(() => client.send(create, aborting(options.signal)), {}, options.signal);
    }
  }

  /** FOREIGN_CONDITIONS where the endpoint does not honour If-Match and If-None-Match of puts. */
  async requireConditions(): Promise<void> {
    await this.#conditions.require("put", { ifMatch: "*", ifNoneMatch: "*" });
  }

  async get(
    key: string,
    options: { range?: Partial<ByteRange>; ifMatch?: string; signal?: AbortSignal } = {},
  ): Promise<StoredObject> {
    const head = () => this.head(key, options);
    const found = await readObject(this.#connection, this.#target(key), key, { ...options, head });
    return { ...found, metadata: shown(found.metadata) };
  }

  async head(
    key: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<ObjectInfo & { metadata: Record<string, string> }> {
    const { signal } = options;
    const { client } = this.#connection;
    const command = new HeadObjectCommand(this.#target(key));
    const found = await this.#connection.ask(() => client.send(command, aborting(signal)), { key }, signal);
    return { ...infoOf(key, found), metadata: shown(found.Metadata ?? {}) };
  }

  async put(key: string, body: Uint8Array | Bytes, request: PutRequest = {}): Promise<ObjectInfo> {
    const { metadata = {}, sizeBytes, signal, ...condition } = request;
    this.#full(key);
    const whole = await gather(body, this.#partBytes, { key, sizeBytes, signal });
    if (whole.bytes !== undefined) {
      await this.#conditions.require("put", condition);
      return this.#putBuffer(key, whole.bytes, metadata, condition, signal);
    }
    const isConditional = condition.ifMatch !== undefined || condition.ifNoneMatch !== undefined;
    if (isConditional && sizeBytes !== undefined && sizeBytes <= maxPutBytes) {
      await this.#conditions.require("put", condition);
      return this.#putStream(key, whole.rest, sizeBytes, metadata, condition, signal);
    }
    await this.#conditions.require("completion", condition);
    return this.#putParts(key, whole.rest, request);
  }

  async delete(key: string, request: Condition & { signal?: AbortSignal } = {}): Promise<void> {
    const { signal, ifMatch, ifModifiedAt, ifSizeBytes } = request;
    await this.#conditions.require("delete", request);
    const command = new DeleteObjectCommand({
      ...this.#target(key),
      ...(ifMatch === undefined ? {} : { IfMatch: quote(ifMatch) }),
      ...(ifModifiedAt === undefined ? {} : { IfMatchLastModifiedTime: new Date(ifModifiedAt) }),
      ...(ifSizeBytes === undefined ? {} : { IfMatchSize: ifSizeBytes }),
    });
    const { client } = this.#connection;
    try {
      await this.#connection.send(() => client.send(command, aborting(signal)), { key }, signal);
    } catch (error) {
      // Gone since the first try, whose answer was lost: that is what was asked for.
      if (error instanceof Refused && error.isRepeated && codeOf(error.failure) === "OBJECT_NOT_FOUND")
        return;
      throw plain(error);
    }
  }

  async list(request: ListRequest = {}): Promise<Listing> {
    const { prefix = "", delimiter, startAfter, continuation, limit = 1000, signal } = request;
    const { client, bucket } = this.#connection;
    const command = new ListObjectsV2Command({
      Bucket: bucket,
      Prefix: this.#prefix + prefix,
      MaxKeys: Math.min(limit, 1000),
      // Not every character of a key may stand in XML.
      EncodingType: "url",
      ...(delimiter === undefined ? {} : { Delimiter: delimiter }),
      ...(startAfter === undefined ? {} : { StartAfter: this.#prefix + startAfter }),
      ...(continuation === undefined ? {} : { ContinuationToken: continuation }),
    });
    const page = await this.#connection.ask(() => client.send(command, aborting(signal)), {}, signal);
    const decode = page.EncodingType === "url" ? decodeKey : (text: string) => text;
    const short = (text = "") => decode(text).slice(this.#prefix.length);
    return {
      objects: (page.Contents ?? []).map((entry) => ({
        key: short(entry.Key),
        sizeBytes: entry.Size ?? 0,
        etag: unquote(entry.ETag),
        modifiedAt: entry.LastModified?.getTime() ?? 0,
      })),
      prefixes: (page.CommonPrefixes ?? []).map((entry) => short(entry.Prefix)),
      ...(page.IsTruncated && page.NextContinuationToken !== undefined
        ? { next: page.NextContinuationToken }
        : {}),
    };
  }

  async createUpload(
    key: string,
    options: { metadata?: Record<string, string> } = {},
  ): Promise<MultipartUpload> {
    return this.#createUpload(key, options.metadata ?? {});
  }

  #createUpload(key: string, metadata: Record<string, string>, signal?: AbortSignal): Promise<ForeignUpload> {
    return ForeignUpload.create({
      connection: this.#connection,
      conditions: this.#conditions,
      target: this.#target(key),
      key,
      metadata,
      isMine: (token) => this.#isMine(key, token),
      ...(signal === undefined ? {} : { signal }),
    });
  }

  async #putBuffer(
    key: string,
    bytes: Uint8Array,
    metadata: Record<string, string>,
    condition: Condition,
    signal: AbortSignal | undefined,
  ): Promise<ObjectInfo> {
    const { client } = this.#connection;
    const write = await this.#writeOf(key, metadata, condition);
    const input = { ...write.input, Body: bytes, ContentLength: bytes.length };
    try {
      const { value } = await this.#connection.send(
        () => client.send(new PutObjectCommand(input), aborting(signal)),
        { key },
        signal,
      );
      return { key, sizeBytes: bytes.length, etag: unquote(value.ETag), modifiedAt: Date.now() };
    } catch (error) {
      return this.#own(error, key, write.token);
    }
  }

  /** In one request, whose body cannot be sent again. */
  async #putStream(
    key: string,
    body: Bytes,
    sizeBytes: number,
    metadata: Record<string, string>,
    condition: Condition,
    signal: AbortSignal | undefined,
  ): Promise<ObjectInfo> {
    const { client } = this.#connection;
    const write = await this.#writeOf(key, metadata, condition);
    const source = streamed(body, signal);
    try {
      const command = unsignedBody(
        new PutObjectCommand({ ...write.input, Body: source.stream, ContentLength: sizeBytes }),
      );
      const request = () => client.send(command, { abortSignal: source.signal });
      const { value } = await this.#connection.send(request, { key }, signal, { attempts: 1 });
      return { key, sizeBytes, etag: unquote(value.ETag), modifiedAt: Date.now() };
    } catch (error) {
      signal?.throwIfAborted();
      if (source.failure !== undefined) throw source.failure;
      throw plain(error);
    } finally {
      source.stream.destroy();
    }
  }

  async #putParts(key: string, body: Bytes, request: PutRequest): Promise<ObjectInfo> {
    const { metadata = {}, sizeBytes, signal, ...condition } = request;
    const upload = await this.#createUpload(key, metadata, signal);
    try {
      const parts: { number: number; etag: string }[] = [];
      // 10,000 parts must do: of a body of unknown length they grow.
      const known = sizeBytes === undefined ? 0 : Math.ceil(sizeBytes / 10_000);
      const pieceBytes = () => Math.max(known, this.#partBytes * 2 ** Math.floor(parts.length / 1000));
      let sending: Promise<void> | undefined;
      for await (const bytes of inPieces(body, pieceBytes, { key, sizeBytes: undefined, signal })) {
        await sending;
        const number = parts.length + 1;
        const part = { number, etag: "" };
        parts.push(part);
        sending = upload.putPart(number, bytes, signal === undefined ? {} : { signal }).then(({ etag }) => {
          part.etag = etag;
        });
        // It is awaited before the next one; meanwhile its failure is no one's.
        sending.catch(() => {});
      }
      await sending;
      return await upload.complete(parts, condition, signal);
    } catch (error) {
      await upload.abort().catch(() => {}); // the first failure is what matters
      throw error;
    }
  }

  async #writeOf(
    key: string,
    metadata: Record<string, string>,
    { ifMatch, ifNoneMatch }: Condition,
  ): Promise<{ input: Omit<PutObjectCommandInput, "Body">; token: string | undefined }> {
    const token = ifMatch === undefined && ifNoneMatch === undefined ? undefined : randomUUID();
    return {
      token,
      input: {
        ...this.#target(key),
        Metadata: token === undefined ? metadata : { ...metadata, [tokenName]: token },
        ...(ifMatch === undefined ? {} : { IfMatch: await this.#conditions.etagOfPut(ifMatch) }),
        ...(ifNoneMatch === undefined ? {} : { IfNoneMatch: quote(ifNoneMatch) }),
      },
    };
  }

  /** What a conditional write that was refused had done itself, when its first answer was lost. */
  async #own(error: unknown, key: string, token: string | undefined): Promise<ObjectInfo> {
    if (error instanceof Refused && error.isRepeated && token !== undefined) {
      const mine = await this.#isMine(key, token);
      if (mine !== undefined) return mine;
    }
    throw plain(error);
  }

  async #isMine(key: string, token: string): Promise<ObjectInfo | undefined> {
    const { client } = this.#connection;
    try {
      const found = await this.#connection.ask(() => client.send(new HeadObjectCommand(this.#target(key))), {
        key,
      });
      if (found.Metadata?.[tokenName] !== token) return undefined;
      return infoOf(key, found);
    } catch (error) {
      if (codeOf(error) === "OBJECT_NOT_FOUND") return undefined;
      throw error;
    }
  }

  #full(key: string): string {
    return checkKey(this.#prefix + checkKey(key));
  }

  #target(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.#connection.bucket, Key: this.#full(key) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#connection[Symbol.dispose]();
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof SkepError ? error.code : undefined;
}

function decodeKey(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch (error) {
    throw fail("FOREIGN_FAILED", { endpoint: "", why: `a key is no UTF-8: ${text}` }, { cause: error });
  }
}
