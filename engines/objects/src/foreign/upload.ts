import { randomUUID } from "node:crypto";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { SkepError } from "@skep/base";
import { fail } from "../errors.ts";
import type { Bytes, Condition, MultipartUpload, ObjectInfo } from "../types.ts";
import { checkedLength, gather } from "./bodies.ts";
import type { Conditions } from "./conditions.ts";
import { type Connection, plain, Refused } from "./connection.ts";
import { aborting, quote, streamed, tokenName, unquote, unsignedBody } from "./wire.ts";

export interface UploadSetting {
  connection: Connection;
  conditions: Conditions;
  target: { Bucket: string; Key: string };
  key: string;
  metadata: Record<string, string>;
  /** The object that has this token, if it is the present one. */
  isMine(token: string): Promise<ObjectInfo | undefined>;
  signal?: AbortSignal;
}

/** Parts up to this size are held, so that they can be sent again. */
const heldBytes = 16 * 1024 * 1024;

export class ForeignUpload implements MultipartUpload {
  readonly id: string;
  readonly #setting: UploadSetting;
  readonly #token: string;
  readonly #parts = new Map<number, { etag: string; sizeBytes: number }>();
  #completed: ObjectInfo | undefined;

  private constructor(setting: UploadSetting, id: string, token: string) {
    this.#setting = setting;
    this.id = id;
    this.#token = token;
  }

  static async create(setting: UploadSetting): Promise<ForeignUpload> {
    const { connection, target, key, metadata, signal } = setting;
    const token = randomUUID();
    const command = new CreateMultipartUploadCommand({
      ...target,
      Metadata: { ...metadata, [tokenName]: token },
    });
    const made = await connection.ask(
      () => connection.client.send(command, aborting(signal)),
      { key },
      signal,
    );
    return new ForeignUpload(setting, made.UploadId as string, token);
  }

  async putPart(
    number: number,
    body: Uint8Array | Bytes,
    options: { sizeBytes?: number; signal?: AbortSignal } = {},
  ): Promise<{ etag: string }> {
    const { connection, target, key } = this.#setting;
    const { sizeBytes, signal } = options;
    const part = { ...target, UploadId: this.id, PartNumber: number };
    const subject = { key, uploadId: this.id };
    const declared = { key, sizeBytes, signal };
    const isLarge = body instanceof Uint8Array ? false : sizeBytes !== undefined && sizeBytes > heldBytes;
    if (isLarge) {
      const source = streamed(checkedLength(body, declared), signal);
      try {
        const command = unsignedBody(
          new UploadPartCommand({ ...part, Body: source.stream, ContentLength: sizeBytes }),
        );
        const request = () => connection.client.send(command, { abortSignal: source.signal });
        const { value } = await connection.send(request, subject, signal, { attempts: 1 });
        return this.#remember(number, unquote(value.ETag), sizeBytes as number);
      } catch (error) {
        signal?.throwIfAborted();
        throw source.failure ?? plain(error);
      } finally {
        source.stream.destroy();
      }
    }
    const bytes = await this.#whole(body, declared);
    const command = new UploadPartCommand({ ...part, Body: bytes, ContentLength: bytes.length });
    const { ETag } = await connection.ask(
      () => connection.client.send(command, aborting(signal)),
      subject,
      signal,
    );
    return this.#remember(number, unquote(ETag), bytes.length);
  }

  async #whole(
    body: Uint8Array | Bytes,
    declared: { key: string; sizeBytes: number | undefined; signal: AbortSignal | undefined },
  ): Promise<Uint8Array> {
    const gathered = await gather(body, body instanceof Uint8Array ? body.length : heldBytes, declared);
    if (gathered.bytes !== undefined) return gathered.bytes;
    await gathered.rest[Symbol.asyncIterator]().return?.();
    const { endpoint } = this.#setting.connection;
    throw fail("FOREIGN_FAILED", {
      endpoint,
      why: `a part of more than ${heldBytes} bytes must say its size`,
    });
  }

  #remember(number: number, etag: string, sizeBytes: number): { etag: string } {
    this.#parts.set(number, { etag, sizeBytes });
    return { etag };
  }

  async complete(
    parts: { number: number; etag: string }[],
    condition: Condition = {},
    signal?: AbortSignal,
  ): Promise<ObjectInfo> {
    if (this.#completed !== undefined) return this.#completed;
    const { connection, conditions, target, key, isMine } = this.#setting;
    this.#check(parts);
    await conditions.require("completion", condition);
    const { ifMatch, ifNoneMatch } = condition;
    const command = new CompleteMultipartUploadCommand({
      ...target,
      UploadId: this.id,
      MultipartUpload: {
        Parts: parts.map(({ number, etag }) => ({ PartNumber: number, ETag: quote(etag) })),
      },
      ...(ifMatch === undefined ? {} : { IfMatch: quote(ifMatch) }),
      ...(ifNoneMatch === undefined ? {} : { IfNoneMatch: quote(ifNoneMatch) }),
    });
    const sizeBytes = parts.reduce((sum, { number }) => sum + (this.#parts.get(number)?.sizeBytes ?? 0), 0);
    try {
      const request = () => connection.client.send(command, aborting(signal));
      const { value } = await connection.send(request, { key, uploadId: this.id }, signal);
      const etag = unquote(value.ETag);
      this.#completed = { key, sizeBytes, etag, modifiedAt: Date.now() };
      // radosgw 16 does not say it.
      if (etag === "") this.#completed = (await isMine(this.#token)) ?? this.#completed;
    } catch (error) {
      // An earlier try may have been carried out, and its answer lost.
      if (error instanceof Refused && error.isRepeated) this.#completed = await isMine(this.#token);
      if (this.#completed === undefined) throw this.#refusal(parts, error);
    }
    return this.#completed;
  }

  /** What can be told without asking: S3's answer does not name the part. */
  #check(parts: { number: number; etag: string }[]): void {
    const { id } = this;
    if (parts.length === 0) throw fail("PART_INVALID", { id, number: 1 });
    for (const [at, { number, etag }] of parts.entries()) {
      if (at > 0 && number <= (parts[at - 1]?.number ?? 0)) throw fail("PART_ORDER", { id });
      if (this.#parts.get(number)?.etag !== etag) throw fail("PART_INVALID", { id, number });
    }
  }

  #refusal(parts: { number: number; etag: string }[], error: unknown): unknown {
    const name = error instanceof Refused && error.cause instanceof Error ? error.cause.name : "";
    const cause = { cause: error };
    const minimum = 5 * 1024 * 1024;
    const small = parts
      .slice(0, -1)
      .find(({ number }) => (this.#parts.get(number)?.sizeBytes ?? 0) < minimum);
    const number = small?.number ?? 1;
    if (name === "EntityTooSmall") {
      const sizeBytes = this.#parts.get(number)?.sizeBytes;
      return fail("PART_TOO_SMALL", { id: this.id, number, sizeBytes, minimum }, cause);
    }
    if (name === "InvalidPart") return fail("PART_INVALID", { id: this.id, number }, cause);
    if (name === "InvalidPartOrder") return fail("PART_ORDER", { id: this.id }, cause);
    return plain(error);
  }

  async abort(): Promise<void> {
    const { connection, target, key } = this.#setting;
    const command = new AbortMultipartUploadCommand({ ...target, UploadId: this.id });
    const subject = { key, uploadId: this.id };
    try {
      await connection.send(() => connection.client.send(command), subject, undefined);
    } catch (error) {
      const isGone =
        error instanceof Refused &&
        error.isRepeated &&
        error.failure instanceof SkepError &&
        error.failure.code === "UPLOAD_NOT_FOUND";
      if (!isGone) throw plain(error);
    }
  }
}
