import { Readable } from "node:stream";
import type { PutObjectCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import type { Bytes, ObjectInfo } from "../types.ts";

/** Marks a write, so that its own effect is told from another writer's when an answer was lost. */
export const tokenName = "skep-write";

/** Metadata without our mark. */
export function shown({ [tokenName]: _, ...metadata }: Record<string, string>): Record<string, string> {
  return metadata;
}

export function aborting(signal: AbortSignal | undefined): { abortSignal?: AbortSignal } {
  return signal === undefined ? {} : { abortSignal: signal };
}

export function unquote(etag = ""): string {
  return etag.replace(/^"(.*)"$/, "$1");
}

export function quote(etag: string): string {
  return etag === "*" ? etag : `"${etag}"`;
}

/** What HEAD and GET say of an object. */
export function infoOf(
  key: string,
  found: { ContentLength?: number | undefined; ETag?: string | undefined; LastModified?: Date | undefined },
): ObjectInfo {
  return {
    key,
    sizeBytes: found.ContentLength ?? 0,
    etag: unquote(found.ETag),
    modifiedAt: found.LastModified?.getTime() ?? 0,
  };
}

interface Streamed {
  /** Why the body broke off, where it did. */
  failure: unknown;
  signal: AbortSignal;
  stream: Readable;
}

/** A body as a stream that, when it fails, ends the request and says why. */
export function streamed(body: Bytes, signal: AbortSignal | undefined): Streamed {
  const ended = new AbortController();
  const source: Streamed = {
    failure: undefined,
    signal: signal === undefined ? ended.signal : AbortSignal.any([signal, ended.signal]),
    stream: Readable.from(body, { objectMode: false }),
  };
  source.stream.on("error", (error) => {
    source.failure = error;
    ended.abort();
  });
  return source;
}

/** A stream's digest is not known before it is sent; then the signature leaves the body out. */
export function unsignedBody<T extends PutObjectCommand | UploadPartCommand>(command: T): T {
  const { middlewareStack } = command as PutObjectCommand;
  middlewareStack.add(
    (next) => (args) => {
      const { headers } = args.request as { headers: Record<string, string> };
      headers["x-amz-content-sha256"] = "UNSIGNED-PAYLOAD";
      return next(args);
    },
    { step: "build", name: "unsignedBody" },
  );
  return command;
}
