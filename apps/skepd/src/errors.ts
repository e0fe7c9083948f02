import { type ErrorTable, errorsOf } from "@skep/base";

export const skepdErrors = {
  DAEMON_RUNNING: {
    message: "skepd runs already for {home}{holder}",
    hint: "one skepd serves a home; to replace it, end that one first (SIGTERM; machines run on)",
    status: 409,
  },
  RUNTIME_UNSAFE: {
    message: "the runtime directory {path} cannot be trusted: {why}",
    hint: "remove it, or set SKEP_RUNTIME_DIR to a directory of your own",
    status: 500,
  },
  SOCKET_PATH_LONG: {
    message: "the socket's path {path} has more than {limit} bytes",
    hint: "set SKEP_RUNTIME_DIR to a short directory",
    status: 500,
  },
  ARGUMENT_INVALID: {
    message: "{why}",
    hint: "usage: skepd [--home DIRECTORY] [--listen HOST:PORT] [--foreground]",
    status: 400,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(skepdErrors);
