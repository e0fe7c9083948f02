import type { IncomingHttpHeaders } from "node:http";
import type { Account, Accounts, Scope } from "@skep/accounts";
import type {
  Attributes,
  Bucket,
  BucketStore,
  Bytes,
  ChecksumAlgorithm,
  ObjectVersion,
  Upload,
} from "@skep/objects";
import type { XmlElement } from "./xml.ts";

/** Time is injected: lifecycle, dates in signatures and policies go by it. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
}

export interface Log {
  info(fields: object, message?: string): void;
  warn(fields: object, message?: string): void;
  error(fields: object, message?: string): void;
}

/** What the face was made with. */
export interface Service {
  readonly store: BucketStore;
  readonly accounts: Accounts;
  readonly clock: Clock;
  readonly log: Log;
  /** The region that signatures name and GetBucketLocation answers. */
  readonly region: string;
  /** Under which `BUCKET.domain` names a bucket. */
  readonly domain?: string;
}

/** Who asks. No `account`: anonymous. */
export interface Identity {
  readonly account?: Account;
  readonly accessKeyId?: string;
  /** Of the key; empty: not limited. */
  readonly scopes: readonly Scope[];
  /** How the request is signed, for conditions such as `s3:authType`. */
  readonly form?: "header" | "presigned" | "post";
  /** Of the signature. */
  readonly version?: 2 | 4;
}

/** Query parameters, decoded; of a repeated one the first counts. */
export type Query = ReadonlyMap<string, string>;

/** A body as it is read: unframed, and compared with every digest that its sender gave. */
export interface IncomingBody {
  /** Without aws-chunked framing; undefined where the client does not know it (`Transfer-Encoding: chunked`). */
  readonly sizeBytes: number | undefined;
  /** Throws S3's error where the bytes are not those that were signed or announced. Once, and not after `whole`. */
  readonly bytes: Bytes;
  /** All bytes at once, for bodies that are small. */
  whole(): Promise<Uint8Array>;
  /** To be called when `bytes` is at its end: compares MD5 (hex) and additional checksum; the latter, where there is one. */
  verify(md5: string): Attributes["checksum"] | undefined;
}

export interface BodyOptions {
  /** EntityTooLarge beyond; 5 GiB without. */
  limitBytes?: number;
  /** An additional checksum to compute, whether or not the request has one. */
  checksum?: ChecksumAlgorithm;
  /** The headers' additional checksum is of something else than this body. */
  ignoreChecksum?: boolean;
}

export interface S3Request {
  readonly service: Service;
  readonly store: BucketStore;
  readonly requestId: string;
  readonly method: string;
  readonly operation: string;
  /** "" at the service's level. */
  readonly bucketName: string;
  /** "" where the request names none. */
  readonly key: string;
  readonly query: Query;
  readonly headers: IncomingHttpHeaders;
  /** Of a form it is known when its fields have been read. */
  identity: Identity;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  readonly remoteAddress: string;
  readonly secure: boolean;
  /** The bucket as it was when the request came. Throws where the operation is about none. */
  readonly bucket: Bucket;
  /** Sends `100 Continue` where it is waited for. Only after authorisation. */
  body(options?: BodyOptions): IncomingBody;
  /** The whole body with all its digests compared. EntityTooLarge or MaxMessageLengthExceeded beyond the limit. */
  bodyText(limitBytes?: number, options?: BodyOptions): Promise<string>;
  /** The whole body as XML with this root: MalformedXML. */
  xmlBody(root: string, limitBytes?: number, options?: BodyOptions): Promise<XmlElement>;
  /** Throws AccessDenied; see `access/authorize.ts`. */
  authorize(action: string, resource: Resource): void;
}

/** What an action is about: a bucket, a key in it, the version there is. */
export interface Resource {
  readonly bucket?: Bucket;
  readonly key?: string;
  readonly object?: ObjectVersion;
  readonly upload?: Upload;
  /** The tags that the request's body would give it; those of a header need not be told. */
  readonly requestTags?: Readonly<Record<string, string>>;
}

export interface S3Response {
  /** 200 without. */
  readonly status?: number;
  readonly headers?: Record<string, string>;
  /** A string is XML (unless `headers` has a content-type). */
  readonly body?: string | Uint8Array | Bytes;
  /** Of a body that is a stream, or of the one that HEAD does not send. */
  readonly sizeBytes?: number;
  /** Called when the answer has been sent, or could not be. */
  close?(): PromiseLike<void>;
}

export type Handler = (request: S3Request) => S3Response | Promise<S3Response>;
