/**
 * One error class for the whole house. Each room declares its errors in one table (`errors.ts`):
 * code, message template, hint and HTTP status. `{name}` in a template is filled from the arguments.
 */
export interface ErrorDefinition {
  /** What went wrong; names the object: `machine "{name}" does not exist`. */
  readonly message: string;
  /** The next step for the user, where there is one: `see: skep ls`. */
  readonly hint?: string;
  /** HTTP status under which the control API reports it. */
  readonly status: number;
}

export type ErrorTable = Readonly<Record<string, ErrorDefinition>>;

/** What an error looks like on the wire and in `--json`. */
export interface ErrorBody {
  code: string;
  message: string;
  hint?: string;
}

export class SkepError extends Error {
  readonly code: string;
  readonly hint: string | undefined;
  readonly status: number;

  constructor(
    code: string,
    message: string,
    options: { hint?: string; status?: number; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "SkepError";
    this.code = code;
    this.hint = options.hint;
    this.status = options.status ?? 500;
  }

  toJSON(): ErrorBody {
    return {
      code: this.code,
      message: this.message,
      ...(this.hint === undefined ? {} : { hint: this.hint }),
    };
  }
}

function fill(template: string, args: Record<string, unknown>): string {
  return template.replace(/\{(\w+)\}/g, (_, key: string) => String(args[key] ?? ""));
}

/** Builds a thrower for a room's table: `fail("MACHINE_NOT_FOUND", { name }, { cause })`. */
export function errorsOf<T extends ErrorTable>(table: T) {
  return (
    code: keyof T & string,
    args: Record<string, unknown> = {},
    options: { cause?: unknown } = {},
  ): SkepError => {
    const definition = table[code] as ErrorDefinition;
    return new SkepError(code, fill(definition.message, args), {
      status: definition.status,
      ...(definition.hint === undefined ? {} : { hint: fill(definition.hint, args) }),
      ...options,
    });
  };
}

/** Any thrown value as a SkepError, keeping the original as `cause`. */
export function toSkepError(error: unknown): SkepError {
  if (error instanceof SkepError) return error;
  // An undo failed as well: what went wrong first is what matters.
  if (error instanceof SuppressedError) return toSkepError(error.suppressed);
  if (error instanceof Error && error.name === "AbortError") {
    return new SkepError("CANCELLED", "cancelled", { status: 499, cause: error });
  }
  if (isErrno(error, "ENOSPC")) return fail("DISK_FULL", {}, { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  return new SkepError("INTERNAL", message, { status: 500, cause: error });
}

export function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code;
}

export const baseErrors = {
  SIZE_INVALID: {
    message: 'size "{value}" is not a size{why}',
    hint: "write a number with a unit: 2G, 512MiB, 10GB",
    status: 400,
  },
  DURATION_INVALID: {
    message: 'duration "{value}" is not a duration',
    hint: "write a number with a unit: 30s, 10m, 2h, 7d",
    status: 400,
  },
  NAME_INVALID: {
    message: '{what} name "{name}" is not allowed: {why}',
    hint: "use 1 to 48 lower-case letters, digits and dashes, beginning with a letter or digit",
    status: 400,
  },
  FILE_DAMAGED: {
    message: "{path} is damaged: {why}",
    hint: "restore it from a copy, or remove the object it belongs to",
    status: 500,
  },
  FILE_VERSION: {
    message: "{path} has version {version}; this skep reads version {supported}",
    hint: "use the version of skep that wrote it",
    status: 500,
  },
  COMMAND_MISSING: {
    message: "{command} is not installed",
    hint: "install it: {install}",
    status: 503,
  },
  COMMAND_FAILED: { message: "{command} failed ({status}): {stderr}", status: 500 },
  DISK_FULL: {
    message: "a disk of this host is full",
    hint: "free some space: skep image prune, skep rm NAME; see: skep doctor",
    status: 507,
  },
  DAEMON_DIED: {
    message: "{program} did not start ({status}){log}",
    hint: "read its log: {logPath}",
    status: 503,
  },
  DAEMON_SILENT: {
    message: "{program} (pid {pid}) does not answer on {socket}",
    hint: "read its log: {logPath}; then restart it: skep daemon restart",
    status: 503,
  },
  CANCELLED: { message: "cancelled", status: 499 },
  INTERNAL: { message: "{message}", status: 500 },
} as const satisfies ErrorTable;

export const fail = errorsOf(baseErrors);
