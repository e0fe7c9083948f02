import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { Progress, Work } from "@skep/base";

/** A directory that goes away with the test. */
export async function temporaryHome(): Promise<{ home: string } & AsyncDisposable> {
  const home = await mkdtemp("/tmp/skep-images-");
  return { home, [Symbol.asyncDispose]: () => rm(home, { recursive: true, force: true }) };
}

/** A work that keeps what it is told. */
export function recordedWork(signal: AbortSignal = new AbortController().signal) {
  const reports: Progress[] = [];
  const notes: string[] = [];
  const work: Work = {
    signal,
    report: (progress) => void reports.push(progress),
    note: (message) => void notes.push(message),
  };
  return { work, reports, notes };
}

export interface TestServer extends AsyncDisposable {
  url(path: string): string;
  requests: { path: string; range: string | undefined; ifRange: string | undefined }[];
}

/** A server on a free port of the loopback; `answer` decides what each request gets. */
export async function serve(
  answer: (request: IncomingMessage, response: ServerResponse, count: number) => void,
): Promise<TestServer> {
  const requests: TestServer["requests"] = [];
  const server = createServer((request, response) => {
    const ifRange = request.headers["if-range"];
    requests.push({
      path: request.url ?? "",
      range: request.headers.range,
      ifRange: ifRange as string | undefined,
    });
    answer(request, response, requests.length);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    requests,
    url: (path) => `http://127.0.0.1:${port}${path}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers as an honest file server does, ranges and If-Range included. */
export function serveFile(
  content: Buffer,
  etag: string,
  request: IncomingMessage,
  response: ServerResponse,
): void {
  const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? Number.NaN);
  if (Number.isNaN(from) || request.headers["if-range"] !== etag) {
    response.writeHead(200, { etag, "content-length": content.length }).end(content);
    return;
  }
  const range = `bytes ${from}-${content.length - 1}/${content.length}`;
  const rest = content.subarray(from);
  response.writeHead(206, { etag, "content-length": rest.length, "content-range": range }).end(rest);
}

/** The names in a store's directory that are neither images nor names: none may stay. */
export function leftOvers(names: string[]): string[] {
  return names.filter((name) => name !== "refs" && !/^[0-9a-f]{64}$/.test(name));
}

export const imagesIn = (home: string): string => join(home, "images");
