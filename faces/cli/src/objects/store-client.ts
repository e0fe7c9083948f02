import { request as httpRequest, type IncomingMessage, type RequestOptions } from "node:http";
import { request as httpsRequest } from "node:https";
import { isIP } from "node:net";
import type { ApiClient, PresignRequest } from "@skep/api";
import { isErrno, SkepError } from "@skep/base";
import type { Context } from "../context.ts";
import { fail } from "../errors.ts";
import { servedEndpoint } from "../profile.ts";
import { readSmall, s3Failure } from "./answer.ts";

export interface StoreCall {
  method: PresignRequest["method"];
  bucket: string;
  key: string;
  query?: Record<string, string>;
  headers?: Record<string, string>;
  body?: Uint8Array;
  signal: AbortSignal;
}

const attempts = 7;
const silenceMs = 60_000;

/**
 * S3 requests through URLs that skepd signs: over storaged's socket on this host, over its endpoint on
 * another. What breaks off is tried again, as bodies are whole and small: storaged may just be starting.
 */
export class StoreClient {
  readonly #api: ApiClient;
  readonly #remote: { endpoint: URL; authority: string } | undefined;

  private constructor(api: ApiClient, remote: { endpoint: URL; authority: string } | undefined) {
    this.#api = api;
    this.#remote = remote;
  }

  static async open(context: Context): Promise<StoreClient> {
    const api = await context.client();
    if (context.host === undefined) return new StoreClient(api, undefined);
    const storage = await api.call("getStorage");
    const endpoint = servedEndpoint(storage, context.host);
    if (endpoint === undefined) throw fail("STORAGE_DOWN", { host: context.host });
    return new StoreClient(api, { endpoint, authority: storage.authority });
  }

  /** A good answer, its body unread. S3_FAILED, TRANSFER_BROKEN. */
  async send(call: StoreCall): Promise<IncomingMessage> {
    for (let attempt = 1; ; attempt += 1) {
      call.signal.throwIfAborted();
      try {
        const answer = await this.#once(call);
        const failure = await s3Failure(answer, pathOf(call));
        if (failure === undefined) return answer;
        throw failure;
      } catch (error) {
        if (call.signal.aborted) throw call.signal.reason;
        if (attempt >= attemptsFor(error)) throw brokenOff(error, call);
        await pause(100 * 2 ** attempt, call.signal);
      }
    }
  }

  /** The same with a small answer, read. */
  async ask(call: StoreCall): Promise<string> {
    return readSmall(await this.send(call), pathOf(call));
  }

  async #once(call: StoreCall): Promise<IncomingMessage> {
    const { method, bucket, key, query, headers = {}, body, signal } = call;
    const { url, socket } = await this.#api.call(
      "presign",
      {
        body: {
          method,
          bucket,
          key,
          headers,
          ...(query === undefined ? {} : { query }),
          ...(this.#remote === undefined ? {} : { endpoint: this.#remote.endpoint.origin }),
        },
      },
      { signal },
    );
    // As it was signed: URL would tidy up a key with dots.
    const origin = /^https?:\/\/[^/]+/.exec(url)![0];
    const options: RequestOptions = {
      method,
      path: url.slice(origin.length),
      headers: {
        ...headers,
        host: new URL(origin).host,
        ...(body === undefined ? {} : { "content-length": body.length }),
      },
      agent: false,
      timeout: silenceMs,
      signal,
      ...(socket === null ? this.#target() : { socketPath: socket }),
    };
    return new Promise((resolve, reject) => {
      const secure = this.#remote?.endpoint.protocol === "https:";
      const request = secure ? httpsRequest(options, resolve) : httpRequest(options, resolve);
      request.once("timeout", () => request.destroy(new Error("nothing came for a minute")));
      request.once("error", reject);
      request.end(body);
    });
  }

  #target(): RequestOptions & { ca?: string; servername?: string } {
    const { endpoint, authority } = this.#remote!;
    const host = endpoint.hostname.replace(/^\[|\]$/g, "");
    const tls = { ca: authority, servername: isIP(host) === 0 ? host : "" };
    return { host, port: endpoint.port, ...(endpoint.protocol === "https:" ? tls : {}) };
  }
}

/** How often a request that ended so is worth sending. */
function attemptsFor(error: unknown): number {
  // Cut off where something listens; the next answers, or nothing listens there for a moment.
  if (isErrno(error, "ECONNRESET")) return 3;
  if (!(error instanceof SkepError)) return attempts;
  const code = "s3Code" in error ? error.s3Code : error.code;
  if (code === "InternalError") return 2;
  const passing = ["SlowDown", "ServiceUnavailable", "RequestTimeout", "DAEMON_UNREACHABLE"];
  return passing.includes(String(code)) ? attempts : 1;
}

function pathOf({ bucket, key }: { bucket: string; key: string }): string {
  return key === "" ? bucket : `${bucket}/${key}`;
}

export function brokenOff(error: unknown, { bucket, key }: { bucket: string; key: string }): unknown {
  if (error instanceof SkepError && "s3Code" in error && error.s3Code === "NoSuchKey") {
    return fail("OBJECT_ABSENT", { path: `${bucket}/${key}`, bucket }, { cause: error });
  }
  if (error instanceof SkepError) return error;
  return fail(
    "TRANSFER_BROKEN",
    { path: `${bucket}/${key}`, why: (error as Error).message },
    { cause: error },
  );
}

export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
  });
}
