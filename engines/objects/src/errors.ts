import { type ErrorTable, errorsOf } from "@skep/base";

export const objectErrors = {
  BUCKET_NOT_FOUND: { message: 'bucket "{bucket}" does not exist', hint: "see: skep object ls", status: 404 },
  BUCKET_EXISTS: { message: 'bucket "{bucket}" exists already', hint: "choose another name", status: 409 },
  BUCKET_NOT_EMPTY: {
    message: 'bucket "{bucket}" is not empty',
    hint: "remove its objects first, all versions and delete markers included",
    status: 409,
  },
  OBJECT_NOT_FOUND: {
    message: 'object "{key}" does not exist in bucket "{bucket}"',
    hint: "see: skep object ls {bucket}",
    status: 404,
  },
  VERSION_NOT_FOUND: {
    message: 'object "{key}" in bucket "{bucket}" has no version "{versionId}"',
    status: 404,
  },
  KEY_INVALID: {
    message: "the key of {length} bytes is not allowed: a key has 1 to 1024 bytes",
    status: 400,
  },
  PRECONDITION_FAILED: {
    message: 'object "{key}" in bucket "{bucket}" is not as the request demands: {why}',
    hint: "read it again, then repeat the change",
    status: 412,
  },
  RANGE_INVALID: {
    message: 'object "{key}" has {sizeBytes} bytes, none of them in the range asked for',
    status: 416,
  },
  BODY_SIZE: {
    message: 'object "{key}" was announced with {declared} bytes and {received} came',
    hint: "send it again",
    status: 400,
  },
  OBJECT_DAMAGED: {
    message: 'object "{key}" in bucket "{bucket}" is damaged on disk: {why}',
    hint: "see: skep doctor; restore the object from a copy",
    status: 500,
  },
  UPLOAD_NOT_FOUND: {
    message: 'upload "{id}" of object "{key}" does not exist',
    hint: "it was completed or aborted, or never begun",
    status: 404,
  },
  PART_INVALID: {
    message: 'part {number} of upload "{id}" is not there, or has another ETag or checksum',
    hint: "upload it again",
    status: 400,
  },
  PART_ORDER: { message: 'the parts of upload "{id}" are not in ascending order', status: 400 },
  PART_TOO_SMALL: {
    message: 'part {number} of upload "{id}" has {sizeBytes} bytes; all but the last need {minimum}',
    status: 400,
  },
  STORE_FULL: {
    message: "the disk of the object store ({path}) is full",
    hint: "free some space there; nothing was changed",
    status: 507,
  },
  STORE_LOCKED: { message: "the object store in {path} is in use by another process", status: 409 },
  STORE_DAMAGED: {
    message: "the object store in {path} is damaged: {why}",
    hint: "see: skep doctor",
    status: 500,
  },
  FOREIGN_FAILED: {
    message: "the object store at {endpoint} failed: {why}",
    hint: "see that it runs and that its keys are right",
    status: 502,
  },
  FOREIGN_CONDITIONS: {
    message: "the object store at {endpoint} does not honour {what}: it was tried",
    hint: "use a store that does; without it two writers could both succeed",
    status: 501,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(objectErrors);
