export { decodeUri, encodeUri, queryPairs, splitTarget } from "./canonical.ts";
export { type ChunkedOptions, decodeChunked, encodeChunked } from "./chunks.ts";
export { signatureErrors } from "./errors.ts";
export { SigningKeys } from "./keys.ts";
export { payloadBytes, unsignedPayload } from "./payload.ts";
export { verifyPost } from "./post.ts";
export { presign, type SignOptions, type SignRequestOptions, signRequest } from "./sign.ts";
export { formatTimestamp } from "./time.ts";
export type * from "./types.ts";
export { signedSubresources, type Version2 } from "./v2.ts";
export {
  anonymousPayload,
  scopeOf,
  type VerifiedBy,
  type VerifyOptions,
  verifyRequest,
} from "./verify.ts";
