import type { IncomingMessage, ServerResponse } from "node:http";
import type { Bytes } from "@skep/objects";
import type { S3Response } from "./context.ts";
import { fail, type S3Error } from "./errors.ts";
import type { Patience } from "./socket-body.ts";
import { escapeXml } from "./xml.ts";

/** The rest of a body up to this much is read and thrown away, so that the connection can stay. */
const keptBytes = 1024 ** 2;
/** Of a larger one as much as may be under way. */
const discardedBytes = 64 * 1024 ** 2;
const discardMs = 1000;

/** Resolves to the bytes of the body that were sent. `asked`: the client was not told to wait with its own. */
export async function respond(
  req: IncomingMessage,
  res: ServerResponse,
  response: S3Response,
  headers: Record<string, string>,
  { patience, asked }: { patience: Patience; asked: boolean },
): Promise<number> {
  const { status = 200, body } = response;
  if (response.headers !== undefined) Object.assign(headers, response.headers);
  const isHead = req.method === "HEAD";
  if (body === undefined || typeof body === "string" || body instanceof Uint8Array) {
    if (typeof body === "string") headers["content-type"] ??= "application/xml";
    const length = typeof body === "string" ? Buffer.byteLength(body) : (body?.length ?? 0);
    const empty = status === 204 || status === 304;
    if (!empty) headers["content-length"] = String(isHead ? (response.sizeBytes ?? length) : length);
    if (asked && !req.complete && hasBody(req))
      return respondEarly(req, res, status, headers, isHead ? "" : body);
    res.writeHead(status, headers);
    res.end(isHead || empty ? undefined : body);
    return isHead || empty ? 0 : length;
  }
  if (response.sizeBytes !== undefined) headers["content-length"] = String(response.sizeBytes);
  res.writeHead(status, headers);
  if (isHead) {
    res.end();
    return 0;
  }
  return sendStream(res, body, patience);
}

function hasBody(req: IncomingMessage): boolean {
  const length = req.headers["content-length"];
  return req.headers["transfer-encoding"] !== undefined || (length !== undefined && length !== "0");
}

/**
 * The answer to a request whose body has not all been read. It is whole for the client at once; the
 * connection ends, where it must, only when the client has had time to see it: closed with bytes
 * unread, it would be reset and the answer lost.
 */
async function respondEarly(
  req: IncomingMessage,
  res: ServerResponse,
  status: number,
  headers: Record<string, string>,
  body: string | Uint8Array | undefined,
): Promise<number> {
  if (!(Number(req.headers["content-length"]) <= keptBytes)) headers.connection = "close";
  res.writeHead(status, headers);
  if (body === undefined || body.length === 0) res.flushHeaders();
  else res.write(body);
  const { socket } = req;
  const whole = await discard(req, res);
  res.end(() => {
    if (!whole) socket.destroySoon();
  });
  return body === undefined ? 0 : body.length;
}

/** Whether the rest of the body has come. */
function discard(req: IncomingMessage, res: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    let discarded = 0;
    const done = () => {
      clearTimeout(timer);
      resolve(req.readableEnded);
    };
    const timer = setTimeout(done, discardMs);
    if (req.destroyed || res.destroyed) {
      done();
      return;
    }
    req.on("data", (piece: Uint8Array) => {
      discarded += piece.length;
      if (discarded > discardedBytes) done();
    });
    req.once("end", done).once("close", done).once("error", done);
    res.once("close", done);
    req.resume();
  });
}

/**
 * Waits for a client that reads slowly, and ends the connection of one that does not read at all. The
 * pieces are lent: one is out of this process before the second one after it is asked for.
 */
async function sendStream(res: ServerResponse, body: Bytes, patience: Patience): Promise<number> {
  let sent = 0;
  let before: Promise<void> = Promise.resolve();
  // Only a client that takes nothing at all is too slow.
  res.setTimeout(patience.idleMs, () => res.destroy());
  try {
    for await (const piece of body) {
      if (res.destroyed) throw fail("RequestTimeout");
      sent += piece.length;
      const written = write(res, piece);
      written.catch(() => undefined);
      await before;
      before = written;
    }
    await before;
    res.setTimeout(0);
    res.end();
    return sent;
  } catch (error) {
    // The headers have promised more: only a broken connection tells that it will not come.
    res.destroy();
    throw error;
  }
}

/** Resolves when the system has taken the piece. */
function write(res: ServerResponse, piece: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const onClose = (cause?: Error) => reject(fail("RequestTimeout", {}, { cause }));
    res.on("close", onClose);
    res.write(piece, (error) => {
      res.off("close", onClose);
      if (error == null) resolve();
      else onClose(error);
    });
  });
}

/** An error as S3 writes it; those without a body (304, and answers to HEAD) say the status only. */
export function errorResponse(
  error: S3Error,
  request: { requestId: string; bucketName: string; key: string; resource: string },
): S3Response {
  if (error.status === 304) return { status: 304, headers: { ...error.headers } };
  const fields = { ...error.fields };
  if (error.code === "NoSuchKey" || error.code === "NoSuchVersion") fields.Key ??= request.key;
  if (error.code.includes("Bucket") && request.bucketName !== "") fields.BucketName ??= request.bucketName;
  const elements = Object.entries({
    Code: error.code,
    Message: error.message,
    ...fields,
    Resource: request.resource,
    RequestId: request.requestId,
  }).map(([name, value]) => `<${name}>${escapeXml(value)}</${name}>`);
  return {
    status: error.status,
    headers: { ...error.headers },
    body: `<?xml version="1.0" encoding="UTF-8"?>\n<Error>${elements.join("")}</Error>`,
  };
}
