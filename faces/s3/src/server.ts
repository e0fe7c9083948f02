import { randomBytes } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { SigningKeys } from "@skep/sigv4";
import { authenticate, presignedHeaders } from "./authenticate.ts";
import { isBucketName } from "./bucket-names.ts";
import type { S3Response, Service } from "./context.ts";
import { corsHeaders } from "./cors.ts";
import { fail, type S3Error, toS3Error } from "./errors.ts";
import { IncomingRequest } from "./incoming.ts";
import type { Operation } from "./operation.ts";
import { type RequestRecord, recordOf } from "./record.ts";
import { errorResponse, respond } from "./respond.ts";
import { routeOf, selectOperation } from "./route.ts";
import type { Patience } from "./socket-body.ts";

export interface S3Options extends Service {
  /** Told of each request when its answer has been sent. */
  onRequest?(record: RequestRecord): void;
  /** What slow clients are allowed; half a minute without a byte, 256 bytes a second. */
  patience?: Patience;
}

export interface S3Face {
  /** For a server's `request` event. */
  handle(req: IncomingMessage, res: ServerResponse): void;
  /** For its `checkContinue`: the client is asked for the body only when it may send one. */
  handleContinue(req: IncomingMessage, res: ServerResponse): void;
  /** Requests that are being answered. */
  readonly active: number;
  /** Resolves when none is left. From now on answers close their connections. */
  drain(): Promise<void>;
}

const defaultPatience: Patience = { idleMs: 30_000, minBytesPerSecond: 256 };

/** S3 over HTTP, for any server of node:http or node:https. */
export function createS3(options: S3Options): S3Face {
  const { patience = defaultPatience, onRequest } = options;
  const keys = new SigningKeys();
  const nextId = requestIds();
  let active = 0;
  let draining: (() => void) | undefined;

  async function serve(req: IncomingMessage, res: ServerResponse, awaited: boolean): Promise<void> {
    const startedAt = performance.now();
    let asked = !awaited;
    const begin = () => {
      if (!asked) res.writeContinue();
      asked = true;
    };
    const request = new IncomingRequest(options, nextId(), req, { patience, begin });
    const onClose = () => request.abort();
    res.once("close", onClose);
    const headers: Record<string, string> = { server: "skep", "x-amz-request-id": request.requestId };
    let response: S3Response;
    let failure: S3Error | undefined;
    try {
      response = await answer(request);
    } catch (error) {
      failure = toS3Error(error);
      response = errorResponse(failure, {
        requestId: request.requestId,
        bucketName: request.bucketName,
        key: request.key,
        resource: (req.url ?? "/").split("?", 1)[0]!,
      });
    }
    const answeredAt = performance.now();
    if (draining !== undefined || !asked) headers.connection = "close";
    addCors(request, headers);
    let sentBytes = 0;
    try {
      sentBytes = await respond(req, res, response, headers, { patience, asked });
    } catch (error) {
      failure ??= toS3Error(error);
      // Half an answer cannot be taken back, and of one that cannot be begun the client shall not wait.
      res.destroy();
    } finally {
      await response.close?.();
    }
    res.off("close", onClose);
    const record = recordOf(request, response, { startedAt, answeredAt, sentBytes, failure });
    if (failure !== undefined && failure.status >= 500 && failure.code !== "NotImplemented") {
      options.log.error({ ...record, err: failure.cause ?? failure }, "s3 request failed");
    }
    onRequest?.(record);
  }

  async function answer(request: IncomingRequest): Promise<S3Response> {
    const { req } = request;
    const route = routeOf(req, options.domain);
    request.take(route);
    const inQuery = presignedHeaders(route.query, req.headers);
    const operation = selectOperation(
      route,
      request.method,
      inQuery === undefined ? req.headers : { ...req.headers, ...inQuery },
    );
    request.operation = operation.name;
    // A form and a preflight carry no signature of their own.
    if (operation.name !== "Preflight" && operation.name !== "PostObject") {
      Object.assign(request, authenticate(req, options, keys, route.hosted ? route.bucketName : undefined));
      Object.assign(req.headers, inQuery);
    }
    if (operation.handler === undefined) throw fail("NotImplemented", { what: operation.name });
    if (route.level !== "service" && operation.name !== "CreateBucket") await findBucket(request);
    if (operation.action !== undefined) authorizeOperation(request, operation.action);
    return operation.handler(request);
  }

  function track(req: IncomingMessage, res: ServerResponse, awaited: boolean): void {
    active += 1;
    serve(req, res, awaited)
      .catch((error: unknown) => {
        options.log.error({ err: error }, "s3 request failed beyond its answer");
        res.destroy();
      })
      .finally(() => {
        active -= 1;
        if (active === 0) draining?.();
      });
  }

  return {
    handle: (req, res) => track(req, res, false),
    handleContinue: (req, res) => track(req, res, true),
    get active() {
      return active;
    },
    drain: () =>
      new Promise((resolve) => {
        draining = resolve;
        if (active === 0) resolve();
      }),
  };
}

async function findBucket(request: IncomingRequest): Promise<void> {
  try {
    request.knownBucket = await request.store.bucket(request.bucketName);
  } catch (error) {
    if (!isBucketName(request.bucketName)) throw fail("InvalidBucketName", {}, { cause: error });
    throw error;
  }
  const expected = request.headers["x-amz-expected-bucket-owner"];
  if (typeof expected === "string" && expected !== ownerNumber(request)) throw fail("AccessDenied");
}

function ownerNumber(request: IncomingRequest): string | undefined {
  return request.service.accounts.accounts().find((one) => one.id === request.bucket.owner)?.number;
}

function authorizeOperation(request: IncomingRequest, action: NonNullable<Operation["action"]>): void {
  const name = typeof action === "string" ? action : action(request);
  const { knownBucket: bucket, key } = request;
  request.authorize(name, { ...(bucket === undefined ? {} : { bucket }), ...(key === "" ? {} : { key }) });
}

function addCors(request: IncomingRequest, headers: Record<string, string>): void {
  if (request.headers.origin === undefined || request.knownBucket === undefined) return;
  Object.assign(headers, corsHeaders(request.knownBucket, request.method, request.headers));
}

/** Sixteen characters, as S3's: unique among all processes, and cheap. */
function requestIds(): () => string {
  const prefix = randomBytes(5).toString("hex").toUpperCase();
  let count = 0;
  return () => {
    count = (count + 1) % 16 ** 6;
    return prefix + count.toString(16).toUpperCase().padStart(6, "0");
  };
}
