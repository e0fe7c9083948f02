import { type ErrorTable, errorsOf } from "@skep/base";

export const daemonErrors = {
  DAEMON_RUNNING: {
    message: "{program} runs already for {home}{holder}",
    hint: "one {program} serves a home; to replace it, end that one first (SIGTERM; machines run on)",
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
  ARGUMENT_INVALID: { message: "{why}", hint: "usage: {usage}", status: 400 },
  LISTEN_INVALID: {
    message: '"{address}" is not an address to listen on: {why}',
    hint: "write HOST:PORT, for instance 127.0.0.1:{port} or [::]:{port}",
    status: 400,
  },
  DAEMON_UNREACHABLE: {
    message: "nothing answers on {socket}: {why}",
    hint: "see: skep doctor",
    status: 503,
  },
  ROUTE_UNKNOWN: {
    message: "there is no {method} {path}",
    hint: "the two daemons may have different versions: restart both",
    status: 404,
  },
  BODY_INVALID: { message: "the request's body is not valid: {why}", status: 400 },
  LISTEN_FAILED: {
    message: "cannot listen on {address}: {why}",
    hint: "choose another address: --listen HOST:PORT",
    status: 409,
  },
} as const satisfies ErrorTable;

export const fail = errorsOf(daemonErrors);
