import { type ErrorTable, errorsOf } from "@skep/base";

export const apiErrors = {
  CONNECTION_FAILED: {
    message: "cannot reach skepd at {where}: {why}",
    hint: "see whether it runs, on its own host: skep daemon status",
    status: 503,
  },
  CONNECTION_LOST: {
    message: "the connection to skepd at {where} was lost: {why}",
    hint: "see what became of the work: skep ls",
    status: 503,
  },
  ADDRESS_INVALID: {
    message: '"{url}" is not an address of skepd: {why}',
    hint: "write https://HOST:8440",
    status: 400,
  },
  TOKEN_INVALID: {
    message: "the token is not one of skep's",
    hint: "make one on the server: skep token create NAME",
    status: 401,
  },
  TLS_FINGERPRINT: {
    message: "{where} shows a certificate that the token does not name; the token was not sent",
    hint: "if its certificates were made anew, make a new token there: skep token create NAME",
    status: 502,
  },
  TLS_NAME: {
    message: "the certificate of {where} does not hold that name",
    hint: "use a name or address that the server had when it began to listen, or make it listen again",
    status: 502,
  },
  TLS_FAILED: { message: "no verified connection to {where}: {why}", status: 502 },
  ANSWER_INVALID: {
    message: "{where} did not answer as skepd does: {why}",
    hint: "check the address, and that both sides have the same version: skep version",
    status: 502,
  },
  SOCKET_REFUSED: { message: "{where} refused the socket: {why}", status: 502 },
} as const satisfies ErrorTable;

export const fail = errorsOf(apiErrors);
