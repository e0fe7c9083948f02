import { type ErrorTable, errorsOf, SkepError } from "@skep/base";
import type { ErrnoName } from "./protocol.ts";

export const nbdErrors = {
  NBD_UNREACHABLE: {
    message: "cannot reach the NBD server at {address}: {why}",
    hint: "see whether it runs and listens there",
    status: 503,
  },
  NBD_PROTOCOL: { message: "{address} sent something that is not the NBD protocol: {why}", status: 502 },
  NBD_CLOSED: { message: "the NBD connection to {address} is closed: {why}", status: 503 },
  NBD_REFUSED: { message: "the NBD server at {address} refused {option}: {why}", status: 409 },
  NBD_EXPORT_UNKNOWN: {
    message: 'the NBD server at {address} has no export "{name}"',
    hint: "see what it has: nbdinfo --list",
    status: 404,
  },
  NBD_TLS_REQUIRED: {
    message: "the NBD server at {address} wants TLS",
    hint: "connect by nbds:// with a certificate",
    status: 403,
  },
  NBD_TLS_FAILED: {
    message: "no TLS with {address}: {why}",
    hint: "both sides need a certificate that the other side's CA has signed",
    status: 403,
  },
  NBD_FAILED: { message: "{command} failed on the NBD server: {errno}{why}", status: 502 },
  NBD_UNSUPPORTED: { message: "the NBD export has no {command}", status: 409 },
  NBD_URI_INVALID: {
    message: 'NBD address "{uri}" is not valid: {why}',
    hint: "write nbd+unix:///NAME?socket=PATH, nbd://HOST:PORT/NAME or nbds://HOST:PORT/NAME",
    status: 400,
  },
  NBD_EXPORT_EXISTS: {
    message: 'an export "{name}" is there already',
    hint: "remove it first, or choose another name",
    status: 409,
  },
  NBD_EXPORT_INVALID: { message: 'cannot export "{name}": {why}', status: 400 },
  NBD_OPEN_TO_ALL: {
    message: "will not serve disks on {host} without TLS: everyone on the network could read them",
    hint: "give a certificate and a CA for clients, or listen on 127.0.0.1",
    status: 400,
  },
  NBD_LISTEN_FAILED: { message: "cannot listen on {address}: {why}", status: 503 },
} as const satisfies ErrorTable;

export const fail = errorsOf(nbdErrors);

/**
 * What a device throws to choose the client's errno, and what the client throws with the server's.
 * The message goes over the wire where structured replies were negotiated.
 */
export class NbdError extends SkepError {
  readonly errno: ErrnoName;
  /** Where in the device it went wrong, if known; within the request. */
  readonly offset: number | undefined;

  constructor(errno: ErrnoName, message: string, options: { offset?: number; cause?: unknown } = {}) {
    super("NBD_FAILED", message, { status: 502, cause: options.cause });
    this.errno = errno;
    this.offset = options.offset;
  }
}

const errnoOfSystem: Readonly<Record<string, ErrnoName>> = {
  EPERM: "EPERM",
  EACCES: "EPERM",
  EROFS: "EPERM",
  ENOMEM: "ENOMEM",
  EINVAL: "EINVAL",
  ENOSPC: "ENOSPC",
  EDQUOT: "ENOSPC",
  EFBIG: "ENOSPC",
  DISK_FULL: "ENOSPC",
  EOVERFLOW: "EOVERFLOW",
  ENOTSUP: "ENOTSUP",
  EOPNOTSUPP: "ENOTSUP",
  ESHUTDOWN: "ESHUTDOWN",
};

/** The errno for anything that a device threw: its own, the system's where NBD has it, or EIO. */
export function errnoOf(error: unknown): ErrnoName {
  if (error instanceof NbdError) return error.errno;
  const code = (error as { code?: unknown } | undefined)?.code;
  return (typeof code === "string" ? errnoOfSystem[code] : undefined) ?? "EIO";
}

/** The other side broke the protocol; nothing that it sends after this can be trusted. */
export class ProtocolError extends Error {
  override name = "ProtocolError";
}

/** The other side is gone before all was said. */
export class ConnectionEnded extends Error {
  override name = "ConnectionEnded";
}

/** What a caller gets whose signal was aborted; a SkepError given as the reason goes through as it is. */
export function cancelled(signal: AbortSignal): SkepError {
  if (signal.reason instanceof SkepError) return signal.reason;
  return new SkepError("CANCELLED", "cancelled", { status: 499, cause: signal.reason });
}

export function reasonOf(error: unknown): string {
  const code = (error as NodeJS.ErrnoException | undefined)?.code;
  if (code === "ENOENT") return "there is no such socket";
  if (code === "ECONNREFUSED") return "nobody listens there";
  if (code === "EACCES") return "permission denied";
  return error instanceof Error ? error.message : String(error);
}
