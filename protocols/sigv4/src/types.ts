/** AWS Signature Version 4. Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)". */

type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** A request as it came or will go; header names in lower case, the path and query undecoded. */
export interface RequestShape {
  method: string;
  /** As on the request line: `/bucket/key%20x?versionId=1`. */
  target: string;
  headers: Headers;
}

export interface Credentials {
  accessKeyId: string;
  secret: string;
}

/** What a signature is bound to, as `YYYYMMDD/region/service/aws4_request` says it. */
export interface Scope {
  accessKeyId: string;
  /** YYYYMMDD. */
  date: string;
  region: string;
  service: string;
}

/** How the body is bound to the signature. */
export type Payload =
  | { kind: "unsigned" }
  /** The body must have this SHA-256, in hexadecimal. */
  | { kind: "digest"; sha256: string }
  /** aws-chunked; `signer` is there where each chunk is signed. */
  | { kind: "chunked"; signed: boolean; trailer: boolean; signer?: ChunkSigner };

/** What of the signature can be known before the body: whose it is, and how the body is signed. */
export interface Verified {
  accessKeyId: string;
  /** Of AWS's signatures. */
  version: 2 | 4;
  form: "header" | "presigned" | "post";
  region: string;
  service: string;
  payload: Payload;
}

/** Signs what follows the headers: each chunk and the trailer, in order. */
export interface ChunkSigner {
  /** The signature of the next chunk, whose bytes have this SHA-256. */
  next(sha256: string): string;
  /** Of the trailing headers, canonicalised as `name:value\n`. */
  trailer(sha256: string): string;
}
