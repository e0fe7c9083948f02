import { randomBytes } from "node:crypto";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  PutObjectCommand,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import { fail } from "../errors.ts";
import type { Condition } from "../types.ts";
import { type Connection, statusOf } from "./connection.ts";
import { quote, unquote } from "./wire.ts";

/**
 * Which conditional writes an endpoint honours. Some ignore a header that they do not know and write
 * all the same, so it is tried once, on an object of its own, before it is relied upon.
 */
export type ConditionalWrite =
  | "put if none match"
  | "put if match"
  | "completion if none match"
  | "completion if match"
  | "delete if match"
  | "delete if modified at"
  | "delete if size";

type Verb = "put" | "completion" | "delete";

const wrongEtag = '"00000000000000000000000000000000"';

export class Conditions {
  readonly #connection: Connection;
  readonly #prefix: string;
  readonly #known = new Map<ConditionalWrite, Promise<boolean>>();
  /** How the endpoint wants an ETag in If-Match of a put, once that is known. */
  #putEtag: (etag: string) => string = quote;

  constructor(connection: Connection, prefix: string) {
    this.#connection = connection;
    this.#prefix = prefix;
  }

  /** FOREIGN_CONDITIONS where the endpoint would ignore any of what is asked for. */
  async require(verb: Verb, condition: Condition): Promise<void> {
    for (const write of writesOf(verb, condition)) {
      if (await this.honours(write)) continue;
      throw fail("FOREIGN_CONDITIONS", { endpoint: this.#connection.endpoint, what: `a ${write}` });
    }
  }

  async honours(write: ConditionalWrite): Promise<boolean> {
    let known = this.#known.get(write);
    if (known === undefined) {
      known = this.#probe(write);
      this.#known.set(write, known);
      // A probe that could not be made says nothing.
      known.catch(() => this.#known.delete(write));
    }
    return known;
  }

  /** The value of If-Match for a put; radosgw 16 compares it without quotes, and matches none with them. */
  async etagOfPut(etag: string): Promise<string> {
    await this.honours("put if match");
    return this.#putEtag(etag);
  }

  async #probe(write: ConditionalWrite): Promise<boolean> {
    const connection = this.#connection;
    const { client, bucket: Bucket } = connection;
    const target = { Bucket, Key: `${this.#prefix}.skep-probe-${randomBytes(8).toString("hex")}` };
    const subject = { key: target.Key };
    const body = { ...target, Body: "probe" };
    const made = await connection.ask(() => client.send(new PutObjectCommand(body)), subject);
    try {
      const refuses = await connection.ask(() => isRefused(() => this.#try(write, target)), subject);
      if (!refuses || write !== "put if match") return refuses;
      for (const form of [quote, (etag: string) => etag]) {
        const right = new PutObjectCommand({ ...body, IfMatch: form(unquote(made.ETag)) });
        if (await connection.ask(() => isRefused(() => client.send(right)), subject)) continue;
        this.#putEtag = form;
        return true;
      }
      return false;
    } finally {
      await connection.ask(() => client.send(new DeleteObjectCommand(target)), subject);
    }
  }

  /** What must fail on an object that is there and has five bytes. */
  async #try(write: ConditionalWrite, target: { Bucket: string; Key: string }): Promise<unknown> {
    const { client } = this.#connection;
    switch (write) {
      case "put if none match":
        return client.send(new PutObjectCommand({ ...target, Body: "x", IfNoneMatch: "*" }));
      case "put if match":
        return client.send(new PutObjectCommand({ ...target, Body: "x", IfMatch: wrongEtag }));
      case "completion if none match":
        return this.#complete(target, { IfNoneMatch: "*" });
      case "completion if match":
        return this.#complete(target, { IfMatch: wrongEtag });
      case "delete if match":
        return client.send(new DeleteObjectCommand({ ...target, IfMatch: wrongEtag }));
      case "delete if modified at":
        return client.send(new DeleteObjectCommand({ ...target, IfMatchLastModifiedTime: new Date(0) }));
      case "delete if size":
        return client.send(new DeleteObjectCommand({ ...target, IfMatchSize: 1 }));
    }
  }

  async #complete(
    target: { Bucket: string; Key: string },
    condition: { IfNoneMatch?: string; IfMatch?: string },
  ): Promise<void> {
    const { client } = this.#connection;
    const { UploadId } = await client.send(new CreateMultipartUploadCommand(target));
    try {
      const part = { ...target, UploadId, PartNumber: 1 };
      const { ETag } = await client.send(new UploadPartCommand({ ...part, Body: "x" }));
      const MultipartUpload = { Parts: [{ PartNumber: 1, ETag }] };
      await client.send(
        new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload, ...condition }),
      );
    } catch (error) {
      await client.send(new AbortMultipartUploadCommand({ ...target, UploadId }));
      throw error;
    }
  }
}

function writesOf(verb: Verb, condition: Condition): ConditionalWrite[] {
  const writes: ConditionalWrite[] = [];
  if (condition.ifMatch !== undefined) writes.push(`${verb} if match`);
  if (condition.ifNoneMatch !== undefined && verb !== "delete") writes.push(`${verb} if none match`);
  if (condition.ifModifiedAt !== undefined) writes.push("delete if modified at");
  if (condition.ifSizeBytes !== undefined) writes.push("delete if size");
  return writes;
}

/** True where it failed for the condition, false where it was done or is not known there. */
async function isRefused(attempt: () => Promise<unknown>): Promise<boolean> {
  try {
    await attempt();
    return false;
  } catch (error) {
    const status = statusOf(error);
    if (status === 412) return true;
    if (status === 501 || status === 400) return false;
    throw error;
  }
}
