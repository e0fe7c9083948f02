import type { Server, ServerOptions } from "node:http";
import type { Socket } from "node:net";
import type { S3Face } from "./server.ts";

/** For `createServer`: a header may hold a signed request with 2 KB of metadata and a key of 1,024 bytes. */
export const serverOptions: ServerOptions = {
  maxHeaderSize: 16_384,
  /** Bodies have their own patience; they may be as long as they are. */
  requestTimeout: 0,
  headersTimeout: 20_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 5000,
  noDelay: true,
};

/** Lets a server made with `serverOptions` (of node:http or node:https) serve S3. */
export function serveS3(server: Server, face: Pick<S3Face, "handle" | "handleContinue">): void {
  server.on("request", (req, res) => face.handle(req, res));
  server.on("checkContinue", (req, res) => face.handleContinue(req, res));
  // An expectation that nobody knows is passed over, as S3 does.
  server.on("checkExpectation", (req, res) => face.handle(req, res));
  server.on("clientError", answerClientError);
}

/** What is not HTTP, or stops in the middle. */
function answerClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable || error.code === "ECONNRESET" || hasAnswer(socket)) {
    socket.destroy();
    return;
  }
  const [status, code, message] = reasonOf(error.code);
  const body = `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  socket.end(
    `HTTP/1.1 ${status}\r\nserver: skep\r\ncontent-type: application/xml\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`,
  );
}

/** Something of an answer has gone out already: a second one would be read as its body. */
function hasAnswer(socket: Socket & { _httpMessage?: { headersSent: boolean } | null }): boolean {
  return socket._httpMessage?.headersSent === true;
}

function reasonOf(code: string | undefined): [status: string, code: string, message: string] {
  switch (code) {
    case "HPE_HEADER_OVERFLOW":
      return ["400 Bad Request", "RequestHeaderSectionTooLarge", "The request's header is too large."];
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return ["400 Bad Request", "RequestTimeout", "The request's header did not come in time."];
    case "HPE_INVALID_EOF_STATE":
      return ["400 Bad Request", "IncompleteBody", "The request ended before it was whole."];
    default:
      return ["400 Bad Request", "BadRequest", "The request is no valid HTTP."];
  }
}
