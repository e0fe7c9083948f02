/** AWS Signature Version 4. Source: the S3 API reference, "Authenticating Requests (AWS Signature Version 4)". */

/** A request as it came or will go; header names in lower case, the path and query undecoded. */
export interface RequestShape {
  method: string;
  /** As on the request line: `/bucket/key%20x?versionId=1`. */
  target: string;
  headers: Readonly<Record<string, string | readonly string[] | undefined>>;
}

export interface Credentials {
  accessKeyId: string;
  secret: string;
}

/** What of the signature can be known before the body: whose it is, and how the body is signed. */
export interface Verified {
  accessKeyId: string;
  form: "header" | "presigned" | "post";
  region: string;
  service: string;
  payload:
    | { kind: "unsigned" }
    /** The body must have this SHA-256, in hexadecimal. */
    | { kind: "digest"; sha256: string }
    /** aws-chunked; `seed` is the request's own signature, the first chunk's previous one. */
    | { kind: "chunked"; signed: boolean; trailer: boolean; signer?: ChunkSigner };
}

/** Signs what follows the headers: each chunk and the trailer, in order. */
export interface ChunkSigner {
  /** The signature of the next chunk, whose bytes have this SHA-256. */
  next(sha256: string): string;
  /** Of the trailing headers, canonicalised as `name:value\n`. */
  trailer(sha256: string): string;
}
