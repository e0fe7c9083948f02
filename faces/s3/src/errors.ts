import { type ErrorTable, isErrno, SkepError } from "@skep/base";
import { signatureErrors } from "@skep/sigv4";

/** S3's error codes. Source: the S3 API reference, "Error responses". */
export const errors = {
  AccessControlListNotSupported: { message: "The bucket does not allow ACLs.", status: 400 },
  AccessDenied: { message: "Access Denied", status: 403 },
  AccessForbidden: { message: "{why}", status: 403 },
  AuthorizationHeaderMalformed: { message: "The authorization header is malformed{why}.", status: 400 },
  AuthorizationQueryParametersError: {
    message: "The signature's query parameters are not valid{why}.",
    status: 400,
  },
  BadDigest: { message: "The {what} you specified did not match the calculated one.", status: 400 },
  BadRequest: { message: "{why}", status: 400 },
  BucketAlreadyExists: { message: "The bucket's name is taken by another account.", status: 409 },
  BucketAlreadyOwnedByYou: { message: "You own this bucket already.", status: 409 },
  BucketNotEmpty: { message: "The bucket you tried to delete is not empty.", status: 409 },
  ConditionalRequestConflict: {
    message: "A conflicting operation happened while this one ran. Try again.",
    status: 409,
  },
  EntityTooLarge: { message: "Your upload exceeds the largest size allowed.", status: 400 },
  EntityTooSmall: { message: "Your upload is smaller than the smallest size allowed.", status: 400 },
  ExpiredToken: { message: "The token has expired.", status: 400 },
  IllegalLocationConstraintException: {
    message: "The location constraint {location} does not fit the endpoint of region {region}.",
    status: 400,
  },
  IllegalVersioningConfigurationException: {
    message: "The versioning configuration of the request is not valid.",
    status: 400,
  },
  IncompleteBody: {
    message: "You did not send the number of bytes given in the Content-Length header.",
    status: 400,
  },
  InternalError: { message: "We met an internal error. Try again.", status: 500 },
  InvalidAccessKeyId: { message: "The access key id you gave does not exist.", status: 403 },
  InvalidArgument: { message: "{why}", status: 400 },
  InvalidBucketAclWithObjectOwnership: {
    message: "A bucket with the ObjectOwnership BucketOwnerEnforced cannot have ACLs.",
    status: 400,
  },
  InvalidBucketName: { message: "The bucket's name is not valid.", status: 400 },
  InvalidBucketState: { message: "The request is not valid for the bucket as it is.", status: 409 },
  InvalidDigest: { message: "The Content-MD5 you gave is not valid.", status: 400 },
  InvalidEncryptionAlgorithmError: { message: "The encryption algorithm is not valid.", status: 400 },
  InvalidLocationConstraint: { message: "The location constraint is not valid.", status: 400 },
  InvalidObjectState: { message: "The operation is not valid for the object as it is.", status: 403 },
  InvalidPart: {
    message: "A part was not found, or its ETag or checksum is not the one you gave.",
    status: 400,
  },
  InvalidPartNumber: { message: "The part number is not satisfiable.", status: 416 },
  InvalidPartOrder: { message: "The list of parts was not in ascending order.", status: 400 },
  InvalidPolicyDocument: { message: "The form's policy is not valid: {why}.", status: 400 },
  InvalidRange: { message: "The range is not satisfiable.", status: 416 },
  InvalidRequest: { message: "{why}", status: 400 },
  InvalidStorageClass: { message: "The storage class is not valid.", status: 400 },
  InvalidTag: { message: "{why}", status: 400 },
  InvalidTargetBucketForLogging: { message: "The target bucket for logging is not valid.", status: 400 },
  InvalidURI: { message: "The URI is not valid.", status: 400 },
  InvalidToken: { message: "The token is malformed or otherwise invalid.", status: 400 },
  KeyTooLongError: { message: "Your key is too long.", status: 400 },
  MalformedACLError: { message: "The ACL is not well-formed or does not fit its schema.", status: 400 },
  MalformedPOSTRequest: { message: "The body is not well-formed multipart/form-data.", status: 400 },
  MalformedPolicy: { message: "{why}", status: 400 },
  MalformedTrailerError: { message: "The trailing headers are malformed: {why}.", status: 400 },
  MalformedXML: { message: "The XML is not well-formed or does not fit its schema.", status: 400 },
  MaxMessageLengthExceeded: { message: "Your request was too big.", status: 400 },
  MaxPostPreDataLengthExceededError: {
    message: "Your form's fields before the file were too large.",
    status: 400,
  },
  MetadataTooLarge: { message: "Your metadata headers exceed the largest size allowed.", status: 400 },
  MethodNotAllowed: { message: "The method is not allowed for this resource.", status: 405 },
  MissingContentLength: { message: "You must give the Content-Length header.", status: 411 },
  MissingRequestBodyError: { message: "The request's body is empty.", status: 400 },
  MissingSecurityHeader: { message: "Your request lacks a required header: {header}.", status: 400 },
  NoSuchBucket: { message: "The bucket does not exist.", status: 404 },
  NoSuchBucketPolicy: { message: "The bucket has no policy.", status: 404 },
  NoSuchConfiguration: { message: "The bucket has no configuration of that id.", status: 404 },
  NoSuchCORSConfiguration: { message: "The bucket has no CORS configuration.", status: 404 },
  NoSuchKey: { message: "The key does not exist.", status: 404 },
  NoSuchLifecycleConfiguration: { message: "The bucket has no lifecycle configuration.", status: 404 },
  NoSuchPublicAccessBlockConfiguration: {
    message: "The bucket has no public access block configuration.",
    status: 404,
  },
  NoSuchTagSet: { message: "There is no tag set.", status: 404 },
  NoSuchTagSetError: { message: "There is no tag set.", status: 404 },
  NoSuchUpload: {
    message: "The upload does not exist: its id is not valid, or it was aborted or completed.",
    status: 404,
  },
  NoSuchVersion: { message: "The version does not exist.", status: 404 },
  NoSuchWebsiteConfiguration: { message: "The bucket has no website configuration.", status: 404 },
  NotImplemented: { message: "{what} is not implemented.", status: 501 },
  NotModified: { message: "Not Modified", status: 304 },
  ObjectLockConfigurationNotFoundError: {
    message: "The bucket has no object lock configuration.",
    status: 404,
  },
  OperationAborted: { message: "A conflicting operation is in progress. Try again.", status: 409 },
  OwnershipControlsNotFoundError: { message: "The bucket has no ownership controls.", status: 404 },
  PermanentRedirect: { message: "The bucket is at another endpoint.", status: 301 },
  PreconditionFailed: { message: "At least one of the preconditions you gave did not hold.", status: 412 },
  ReplicationConfigurationNotFoundError: {
    message: "The bucket has no replication configuration.",
    status: 404,
  },
  RequestHeaderSectionTooLarge: { message: "The request's header is too large.", status: 400 },
  RequestTimeTooSkewed: {
    message: "The difference between the request's time and the server's is too large.",
    status: 403,
  },
  RequestTimeout: {
    message: "Your connection was neither read from nor written to within the time allowed.",
    status: 400,
  },
  ServerSideEncryptionConfigurationNotFoundError: {
    message: "The bucket has no server-side encryption configuration.",
    status: 404,
  },
  ServiceUnavailable: { message: "The service is not available now. Try again.", status: 503 },
  SignatureDoesNotMatch: {
    message: "The signature we calculated does not match the one you gave. Check your key and method.",
    status: 403,
  },
  SlowDown: { message: "Reduce your request rate.", status: 503 },
  TooManyBuckets: { message: "You have more buckets than are allowed.", status: 400 },
  UnresolvableGrantByEmailAddress: {
    message: "The email address does not match any account on record.",
    status: 400,
  },
  UnexpectedContent: { message: "This request does not take content.", status: 400 },
  UnsupportedArgument: { message: "The request has an argument that is not supported: {what}.", status: 400 },
  XAmzContentChecksumMismatch: {
    message: "The {what} you specified did not match the calculated one.",
    status: 400,
  },
  XAmzContentSHA256Mismatch: {
    message: "The given x-amz-content-sha256 does not match what was computed.",
    status: 400,
  },
} as const satisfies ErrorTable;

export type S3Code = keyof typeof errors;

/** An error with S3's code; `fields` are further elements of its XML, `headers` go with the answer. */
export class S3Error extends SkepError {
  readonly fields: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: S3Code,
    message: string,
    fields: Record<string, string>,
    options: { headers?: Record<string, string>; cause?: unknown; status?: number },
  ) {
    super(code, message, { status: options.status ?? errors[code].status, cause: options.cause });
    this.fields = fields;
    this.headers = options.headers ?? {};
  }
}

/**
 * Makes an S3 error: arguments in lower case fill the message, others (`{ Key: "a" }`) become elements
 * of its XML.
 */
export function fail(
  code: S3Code,
  args: Record<string, string | number> = {},
  options: { headers?: Record<string, string>; message?: string; cause?: unknown } = {},
): S3Error {
  const template = options.message ?? errors[code].message;
  const message = template.replace(/\{(\w+)\}/g, (_, name: string) => String(args[name] ?? ""));
  const fields: Record<string, string> = {};
  for (const [name, value] of Object.entries(args)) {
    if (/^[A-Z]/.test(name)) fields[name] = String(value);
  }
  return new S3Error(code, message, fields, options);
}

/** Errors of the engine, by S3's codes. */
const codes: Record<string, S3Code> = {
  BUCKET_NOT_FOUND: "NoSuchBucket",
  BUCKET_EXISTS: "BucketAlreadyExists",
  BUCKET_NOT_EMPTY: "BucketNotEmpty",
  OBJECT_NOT_FOUND: "NoSuchKey",
  VERSION_NOT_FOUND: "NoSuchVersion",
  KEY_INVALID: "KeyTooLongError",
  PRECONDITION_FAILED: "PreconditionFailed",
  RANGE_INVALID: "InvalidRange",
  BODY_SIZE: "IncompleteBody",
  UPLOAD_NOT_FOUND: "NoSuchUpload",
  PART_INVALID: "InvalidPart",
  PART_ORDER: "InvalidPartOrder",
  PART_TOO_SMALL: "EntityTooSmall",
  STORE_FULL: "ServiceUnavailable",
  DISK_FULL: "ServiceUnavailable",
};

/** Whatever was thrown, as S3 says it; what S3 has no word for is an InternalError with its cause. */
export function toS3Error(error: unknown): S3Error {
  if (error instanceof S3Error) return error;
  if (error instanceof SkepError) {
    if (Object.hasOwn(codes, error.code)) return fail(codes[error.code]!, {}, { cause: error });
    if (Object.hasOwn(signatureErrors, error.code)) {
      const { s3 } = signatureErrors[error.code as keyof typeof signatureErrors];
      return new S3Error(s3, error.message, {}, { cause: error, status: error.status });
    }
  }
  if (isErrno(error, "ENOSPC")) return fail("ServiceUnavailable", {}, { cause: error });
  if (error instanceof SkepError && error.code === "OBJECT_DAMAGED") {
    const message = "The object is damaged where it is stored: its bytes are not those that were written.";
    return fail("InternalError", {}, { message, cause: error });
  }
  return fail("InternalError", {}, { cause: error });
}
