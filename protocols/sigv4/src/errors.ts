import { type ErrorDefinition, errorsOf } from "@skep/base";

/** What is wrong with a signature or a signed body; `s3` is the code under which S3 reports it. */
export const signatureErrors = {
  ACCESS_DENIED: { s3: "AccessDenied", message: "access denied: {why}", status: 403 },
  SIGNATURE_MISMATCH: {
    s3: "SignatureDoesNotMatch",
    message: "the signature calculated here is not the one that came with {what}",
    hint: "check the secret key, and that nothing between changes the request",
    status: 403,
  },
  ACCESS_KEY_UNKNOWN: {
    s3: "InvalidAccessKeyId",
    message: 'access key "{accessKeyId}" does not exist',
    hint: "see: skep key ls",
    status: 403,
  },
  TIME_SKEWED: {
    s3: "RequestTimeTooSkewed",
    message: "the request was signed at {signedAt}, and it is {now} here",
    hint: "set the clock of the client",
    status: 403,
  },
  HEADER_MALFORMED: {
    s3: "AuthorizationHeaderMalformed",
    message: "the Authorization header is malformed: {why}",
    status: 400,
  },
  QUERY_MALFORMED: {
    s3: "AuthorizationQueryParametersError",
    message: "the query's signature is malformed: {why}",
    status: 400,
  },
  // Amazon answers 400 here; the public test suite of Ceph wants 403, and clients look at the code.
  EXPIRES_INVALID: {
    s3: "AuthorizationQueryParametersError",
    message: "X-Amz-Expires must be a number of seconds from 1 to 604800 and is {value}",
    status: 403,
  },
  SIGNATURE_EXPIRED: {
    s3: "AccessDenied",
    message: "Request has expired: it was valid until {expiredAt}, and it is {now} here",
    hint: "sign it again",
    status: 403,
  },
  FORM_MALFORMED: {
    s3: "InvalidArgument",
    message: "the form's signature is malformed: {why}",
    status: 400,
  },
  ARGUMENT_INVALID: { s3: "InvalidArgument", message: "{why}", status: 400 },
  TOKEN_INVALID: {
    s3: "InvalidToken",
    message: "no session has this security token",
    hint: "use an access key without a session token",
    status: 400,
  },
  REQUEST_INVALID: { s3: "InvalidRequest", message: "{why}", status: 400 },
  VERSION_UNSUPPORTED: {
    s3: "InvalidRequest",
    message: "Signature Version 2 is not supported: please use AWS4-HMAC-SHA256",
    hint: "let the client sign with version 4 (signature_version = s3v4)",
    status: 400,
  },
  ALGORITHM_UNSUPPORTED: {
    s3: "NotImplemented",
    message: "{algorithm} is not implemented",
    hint: "sign with AWS4-HMAC-SHA256",
    status: 501,
  },
  LENGTH_MISSING: {
    s3: "MissingContentLength",
    message: "a body in chunks needs the header x-amz-decoded-content-length",
    status: 411,
  },
  PAYLOAD_MISMATCH: {
    s3: "XAmzContentSHA256Mismatch",
    message: "the body has SHA-256 {received}, and x-amz-content-sha256 says {declared}",
    hint: "send it again",
    status: 400,
  },
  BODY_INCOMPLETE: {
    s3: "IncompleteBody",
    message: "the body ended early: {why}",
    hint: "send it again",
    status: 400,
  },
  CHUNK_MALFORMED: { s3: "InvalidRequest", message: "the body's chunks are malformed: {why}", status: 400 },
  TRAILER_MALFORMED: {
    s3: "MalformedTrailerError",
    message: "the trailing headers are malformed: {why}",
    status: 400,
  },
} as const satisfies Readonly<Record<string, ErrorDefinition & { s3: string }>>;

export const fail = errorsOf(signatureErrors);
