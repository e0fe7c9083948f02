import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { toSkepError } from "@skep/base";
import { fail } from "./errors.ts";

export interface JsonRequest {
  /** Of the path: `/buckets/:name`, decoded. */
  params: Readonly<Record<string, string>>;
  query: URLSearchParams;
  /** Undefined where there is none. */
  body: unknown;
  /** Aborted when the client goes away. */
  signal: AbortSignal;
}

export interface JsonRoute {
  method: "GET" | "POST" | "PUT" | "DELETE";
  path: string;
  /**
   * A string is sent as plain text, undefined as an empty answer, an AsyncIterable as one line of JSON an
   * item, all else as JSON.
   */
  handle(request: JsonRequest): unknown;
}

const bodyLimit = 8 * 1024 * 1024;
/** One value a line: `{"item": …}`, at the end `{"error": …}` where it failed, and `{"end": true}`. */
const jsonLines = "application/jsonl";

/**
 * A small JSON-over-HTTP server for a Unix socket between two processes of one user. `GET /watch` is
 * answered for as long as the process lives: who asks is told of its end by the connection's.
 */
export function createJsonServer(
  routes: readonly JsonRoute[],
  onError: (error: unknown, route: string) => void,
): Server {
  const table = routes.map((route) => ({ ...route, segments: route.path.split("/") }));
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const [path = "/", query = ""] = (request.url ?? "/").split("?", 2);
    if (path === "/watch") {
      response.writeHead(200).flushHeaders();
      return;
    }
    const segments = path.split("/");
    const found = table.find(({ method, segments: wanted }) => {
      return method === request.method && matches(wanted, segments);
    });
    try {
      if (found === undefined) throw fail("ROUTE_UNKNOWN", { method: request.method, path });
      const gone = new AbortController();
      response.once("close", () => gone.abort());
      const result = await found.handle({
        params: paramsOf(found.segments, segments),
        query: new URLSearchParams(query),
        body: await readBody(request),
        signal: gone.signal,
      });
      if (typeof result === "string") send(response, 200, "text/plain; charset=utf-8", result);
      else if (result === undefined) response.writeHead(204).end();
      else if (isIterable(result)) await sendLines(response, result, (error) => onError(error, path));
      else send(response, 200, "application/json", JSON.stringify(result));
    } catch (error) {
      const failure = toSkepError(error);
      if (failure.status >= 500) onError(error, `${request.method} ${path}`);
      send(response, failure.status, "application/json", JSON.stringify({ error: failure.toJSON() }));
    }
  };
  return createServer((request, response) => {
    answer(request, response).catch(() => response.destroy()); // the client has gone
  });
}

function send(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body) }).end(body);
}

function isIterable(value: unknown): value is AsyncIterable<unknown> {
  return typeof value === "object" && value !== null && Symbol.asyncIterator in value;
}

/** What fails after the first line is told in the last one: `{"error": …}`. */
async function sendLines(
  response: ServerResponse,
  items: AsyncIterable<unknown>,
  onError: (error: unknown) => void,
): Promise<void> {
  response.writeHead(200, { "content-type": jsonLines }).flushHeaders();
  try {
    for await (const item of items) response.write(`${JSON.stringify({ item })}\n`);
  } catch (error) {
    const failure = toSkepError(error);
    if (failure.status >= 500) onError(error);
    response.write(`${JSON.stringify({ error: { ...failure.toJSON(), status: failure.status } })}\n`);
  }
  response.end(`{"end":true}\n`);
}

function matches(wanted: readonly string[], segments: readonly string[]): boolean {
  return (
    wanted.length === segments.length &&
    wanted.every((part, index) => part.startsWith(":") || part === segments[index])
  );
}

function paramsOf(wanted: readonly string[], segments: readonly string[]): Record<string, string> {
  const params: Record<string, string> = {};
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(":")) params[part.slice(1)] = decodeURIComponent(segments[index] as string);
  }
  return params;
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length;
    if (size > bodyLimit) throw fail("BODY_INVALID", { why: "it is too large" });
    pieces.push(piece);
  }
  if (size === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(pieces).toString("utf8"));
  } catch (error) {
    throw fail("BODY_INVALID", { why: "it is not JSON" }, { cause: error });
  }
}
