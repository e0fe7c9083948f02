import { setTimeout as sleep } from "node:timers/promises";
import { S3Client, S3ServiceException } from "@aws-sdk/client-s3";
import { SkepError } from "@skep/base";
import { fail } from "../errors.ts";

export interface ForeignOptions {
  /** `https://host:port`; without one, Amazon's of the region. */
  endpoint?: string;
  region?: string;
  bucket: string;
  /** Of all keys, and not shown in them; ends with "/" where it is a folder. */
  prefix?: string;
  credentials: { accessKeyId: string; secret: string };
  /** The bucket in the path instead of in the host's name; true with an endpoint. */
  pathStyle?: boolean;
  /** Certificates (PEM) to trust besides the system's. */
  ca?: string;
  /** False: any certificate will do. */
  verify?: boolean;
  /** A connection that is still for so long has failed; 30 s without. */
  timeoutMs?: number;
  /** Tries of each request; 4 without. */
  attempts?: number;
  /** The first pause between two tries; doubled after each. 100 ms without. */
  pauseMs?: number;
  /** Larger bodies go in parts of this size; 8 MiB without. */
  partBytes?: number;
}

export interface Attempted<T> {
  value: T;
  /** An earlier try failed and may have been carried out all the same. */
  isRepeated: boolean;
}

/** How a failed answer is told: whose object it was about. */
export interface Subject {
  key?: string;
  uploadId?: string;
}

/** One endpoint and bucket: sends, tries again, and says what went wrong in this room's words. */
export class Connection implements Disposable {
  readonly client: S3Client;
  readonly bucket: string;
  readonly endpoint: string;
  readonly #attempts: number;
  readonly #pauseMs: number;

  constructor(options: ForeignOptions) {
    const { endpoint, region = "us-east-1", credentials, timeoutMs = 30_000 } = options;
    this.bucket = options.bucket;
    this.endpoint = endpoint ?? `s3.${region}.amazonaws.com`;
    this.#attempts = options.attempts ?? 4;
    this.#pauseMs = options.pauseMs ?? 100;
    const agent = { keepAlive: true, maxSockets: 64 };
    this.client = new S3Client({
      region,
      ...(endpoint === undefined ? {} : { endpoint }),
      credentials: { accessKeyId: credentials.accessKeyId, secretAccessKey: credentials.secret },
      forcePathStyle: options.pathStyle ?? endpoint !== undefined,
      // What was tried once must be known here, so trying again is ours.
      maxAttempts: 1,
      logger: { trace() {}, debug() {}, info() {}, warn() {}, error() {} },
      // Older servers know neither trailers nor the newer checksums; bodies are covered by the signature.
      requestChecksumCalculation: "WHEN_REQUIRED",
      responseChecksumValidation: "WHEN_REQUIRED",
      // With `Expect: 100-continue` the SDK takes an agent of its own, which knows nothing of `ca`.
      expectContinueHeader: false,
      requestHandler: {
        connectionTimeout: Math.min(timeoutMs, 10_000),
        socketTimeout: timeoutMs,
        httpAgent: agent,
        httpsAgent: {
          ...agent,
          ...(options.ca === undefined ? {} : { ca: options.ca }),
          ...(options.verify === false ? { rejectUnauthorized: false } : {}),
        },
      },
    });
  }

  /**
   * Sends until there is an answer that another try would not change. `isRepeated` says whether an
   * earlier try may have had an effect.
   */
  async send<T>(
    request: () => Promise<T>,
    subject: Subject,
    signal: AbortSignal | undefined,
    options: { attempts?: number } = {},
  ): Promise<Attempted<T>> {
    const attempts = options.attempts ?? this.#attempts;
    for (let attempt = 1; ; attempt += 1) {
      signal?.throwIfAborted();
      try {
        return { value: await request(), isRepeated: attempt > 1 };
      } catch (error) {
        signal?.throwIfAborted();
        if (attempt >= attempts || !mayPass(error)) {
          throw new Refused(this.failure(error, subject), error, attempt > 1);
        }
      }
      const pause = this.#pauseMs * 2 ** (attempt - 1);
      await sleep(pause / 2 + Math.random() * (pause / 2), undefined, { ...(signal && { signal }) });
    }
  }

  /** As `send`, where it does not matter how often it is carried out. */
  async ask<T>(
    request: () => Promise<T>,
    subject: Subject = {},
    signal: AbortSignal | undefined = undefined,
  ): Promise<T> {
    try {
      return (await this.send(request, subject, signal)).value;
    } catch (error) {
      throw plain(error);
    }
  }

  failure(error: unknown, { key = "", uploadId = "" }: Subject): Error {
    if (error instanceof SkepError) return error;
    const { bucket, endpoint } = this;
    const told = (code: Parameters<typeof fail>[0], args: Record<string, unknown>) =>
      fail(code, args, { cause: error });
    if (error instanceof S3ServiceException) {
      const status = error.$metadata.httpStatusCode;
      const name = error.name;
      if (name === "NoSuchBucket") return told("BUCKET_NOT_FOUND", { bucket });
      if (name === "NoSuchUpload") return told("UPLOAD_NOT_FOUND", { id: uploadId, key });
      if (name === "NoSuchKey" || (status === 404 && key !== "")) {
        return told("OBJECT_NOT_FOUND", { bucket, key });
      }
      if (status === 412) return told("PRECONDITION_FAILED", { bucket, key, why: "its ETag is another" });
      if (status === 507 || name === "QuotaExceeded" || name === "InsufficientCapacity") {
        return told("STORE_FULL", { path: endpoint });
      }
      return told("FOREIGN_FAILED", {
        endpoint,
        why: `${name}${status === undefined ? "" : ` (${status})`}`,
      });
    }
    const why =
      error instanceof Error ? error.message || (error as NodeJS.ErrnoException).code : String(error);
    return told("FOREIGN_FAILED", { endpoint, why });
  }

  [Symbol.dispose](): void {
    this.client.destroy();
  }
}

/** A definite failure, and whether an earlier try of the same request may have succeeded. */
export class Refused extends Error {
  readonly isRepeated: boolean;
  readonly failure: Error;

  constructor(failure: Error, cause: unknown, isRepeated: boolean) {
    super(failure.message, { cause });
    this.failure = failure;
    this.isRepeated = isRepeated;
  }
}

/** What the caller shall see of a failure. */
export function plain(error: unknown): unknown {
  return error instanceof Refused ? error.failure : error;
}

export function statusOf(error: unknown): number | undefined {
  return error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
}

/** Whether the same request may succeed when it is sent again. */
function mayPass(error: unknown): boolean {
  if (error instanceof SkepError) return false;
  if (!(error instanceof S3ServiceException)) {
    // No answer, or one that cannot be read. A certificate does not become right.
    const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "";
    return !/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO|INVALID/.test(code);
  }
  const status = error.$metadata.httpStatusCode;
  if (status === undefined) return true;
  if (error.name === "ConditionalRequestConflict" || error.name === "RequestTimeout") return true;
  return status === 429 || status === 408 || (status >= 500 && status !== 501 && status !== 507);
}
