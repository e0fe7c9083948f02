import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { Bucket, BucketStore } from "@skep/objects";
import type { Payload } from "@skep/sigv4";
import { authorize } from "./access/authorize.ts";
import { anonymous } from "./authenticate.ts";
import { incomingBody, wholeBody } from "./body.ts";
import type { BodyOptions, Identity, IncomingBody, Query, Resource, S3Request, Service } from "./context.ts";
import { fail } from "./errors.ts";
import type { Route } from "./route.ts";
import type { Patience } from "./socket-body.ts";
import { parseXml, type XmlElement } from "./xml.ts";

const noQuery: Query = new Map();
const documentBytes = 1024 ** 2;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** A request on its way: filled in step by step, while it is routed and authenticated. */
export class IncomingRequest implements S3Request {
  readonly service: Service;
  readonly requestId: string;
  readonly req: IncomingMessage;
  operation = "";
  bucketName = "";
  key = "";
  query: Query = noQuery;
  identity: Identity = anonymous;
  payload: Payload = { kind: "unsigned" };
  knownBucket: Bucket | undefined;
  readonly #patience: Patience;
  readonly #begin: () => void;
  #abort: AbortController | undefined;
  #gone = false;

  constructor(
    service: Service,
    requestId: string,
    req: IncomingMessage,
    options: { patience: Patience; begin(): void },
  ) {
    this.service = service;
    this.requestId = requestId;
    this.req = req;
    this.#patience = options.patience;
    this.#begin = options.begin;
  }

  take(route: Route): void {
    this.bucketName = route.bucketName;
    this.key = route.key;
    this.query = route.query;
  }

  get store(): BucketStore {
    return this.service.store;
  }

  get method(): string {
    return this.req.method ?? "";
  }

  get headers(): IncomingHttpHeaders {
    return this.req.headers;
  }

  get remoteAddress(): string {
    return this.req.socket.remoteAddress ?? "";
  }

  get secure(): boolean {
    return (this.req.socket as TLSSocket).encrypted === true;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#gone) this.#abort.abort();
    return this.#abort.signal;
  }

  /** The client is not there any more. */
  abort(): void {
    this.#gone = true;
    this.#abort?.abort();
  }

  get bucket(): Bucket {
    if (this.knownBucket === undefined) throw new TypeError(`${this.operation} is about no bucket`);
    return this.knownBucket;
  }

  body(options?: BodyOptions): IncomingBody {
    const { req, payload } = this;
    return incomingBody({ req, payload, patience: this.#patience, begin: this.#begin }, options);
  }

  async bodyText(limitBytes = documentBytes, options?: BodyOptions): Promise<string> {
    const { headers } = this;
    if (headers["content-length"] === undefined && headers["transfer-encoding"] === undefined) return "";
    const bytes = await wholeBody(
      this.body({ ...options, limitBytes }),
      headers["content-md5"] !== undefined,
    );
    try {
      return strictUtf8.decode(bytes);
    } catch (error) {
      throw fail("MalformedXML", {}, { cause: error });
    }
  }

  async xmlBody(root: string, limitBytes = documentBytes, options?: BodyOptions): Promise<XmlElement> {
    const text = await this.bodyText(limitBytes, options);
    if (text === "") throw fail("MissingRequestBodyError");
    return parseXml(text, root);
  }

  authorize(action: string, resource: Resource): void {
    authorize(this, action, resource);
  }
}
