import { type ErrorTable, errorsOf } from "@skep/base";

export const controlErrors = {
  REQUEST_INVALID: { message: "the request is not valid: {why}", status: 400 },
  BODY_TOO_LARGE: { message: "the request's body is larger than {limit}", status: 413 },
  ROUTE_NOT_FOUND: {
    message: "there is no {method} {path}",
    hint: "see /openapi.json; the other side may have another version: skep version",
    status: 404,
  },
  UPGRADE_REQUIRED: { message: "{path} is a WebSocket", status: 426 },
  ORIGIN_REFUSED: {
    message: "requests of web pages are refused (origin {origin})",
    status: 403,
  },
  TOKEN_MISSING: {
    message: "a token is needed over the network",
    hint: "make one on the server: skep token create NAME",
    status: 401,
  },
  TOKEN_REFUSED: {
    message: "the token is unknown, removed or expired",
    hint: "make a new one on the server: skep token create NAME",
    status: 401,
  },
  TOKEN_NOT_FOUND: { message: 'token "{id}" does not exist', hint: "see: skep token ls", status: 404 },
  TOO_MANY_FAILURES: {
    message: "too many failed tries from {address}",
    hint: "wait a minute",
    status: 429,
  },
  JOB_NOT_FOUND: {
    message: 'job "{id}" does not exist',
    hint: "only the last 500 finished jobs are kept",
    status: 404,
  },
  JOB_FINISHED: { message: 'job "{id}" has ended already: {state}', status: 409 },
  JOB_INTERRUPTED: {
    message: "skepd ended while this was being done; {outcome}",
    hint: "do it again",
    status: 500,
  },
  SHUTTING_DOWN: { message: "skepd is about to end", hint: "try again in a moment", status: 503 },
  ACCOUNT_HAS_BUCKETS: {
    message: 'account "{name}" still owns {count} buckets ("{first}")',
    hint: "empty and remove them first: skep bucket ls; skep bucket rm NAME",
    status: 409,
  },
  BUCKET_NAME_INVALID: {
    message: 'bucket name "{name}" is not allowed',
    hint: "use 3 to 63 lower-case letters, digits, dots and dashes, beginning and ending with a letter or digit",
    status: 400,
  },
  ENDPOINT_INVALID: {
    message: '"{endpoint}" is not an endpoint',
    hint: "write https://HOST:PORT",
    status: 400,
  },
  VOLUME_ATTACHED: {
    message: 'volume "{id}" is attached to machine "{name}"',
    hint: "detach it there first: skep vol detach {id}; or all at once: skep vol rm --force {id}",
    status: 409,
  },
  VOLUME_FREE: { message: 'volume "{id}" is attached to no machine', hint: "see: skep vol ls", status: 409 },
  FRAME_INVALID: { message: "the socket's frame is not valid: {why}", status: 400 },
} as const satisfies ErrorTable;

export const fail = errorsOf(controlErrors);
