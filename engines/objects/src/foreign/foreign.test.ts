import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { SkepError } from "@skep/base";
import { MemoryStore } from "../memory.ts";
import type { Bytes } from "../types.ts";
import type { ForeignOptions } from "./connection.ts";
import { ForeignStore } from "./store.ts";

/**
 * What a healthy server cannot be made to do: lose its answers, break off, ignore conditions. Enough of
 * S3 in front of a MemoryStore; whole servers are tried in test/.
 */
class FaultyServer implements AsyncDisposable {
  readonly objects = new MemoryStore();
  readonly requests: string[] = [];
  /** What to do to the next request that fits; true where it was answered. */
  fault: (request: IncomingMessage, response: ServerResponse, body: Buffer) => Promise<boolean> | boolean =
    () => false;
  honoursConditions = true;
  readonly #server: Server;
  readonly #opened: ForeignStore[] = [];

  private constructor() {
    this.#server = createServer((request, response) => {
      this.#handle(request, response).catch((error) => {
        if (!(error instanceof SkepError)) response.destroy(error);
        else answer(response, error.status, error.code === "OBJECT_NOT_FOUND" ? "NoSuchKey" : error.code);
      });
    });
  }

  static async start(): Promise<FaultyServer> {
    const faulty = new FaultyServer();
    const server = faulty.#server;
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return faulty;
  }

  store(options: Partial<ForeignOptions> = {}): ForeignStore {
    const { port } = this.#server.address() as AddressInfo;
    const store = new ForeignStore({
      endpoint: `http://127.0.0.1:${port}`,
      bucket: "bucket",
      credentials: { accessKeyId: "key", secret: "secret" },
      pauseMs: 1,
      ...options,
    });
    this.#opened.push(store);
    return store;
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request) pieces.push(piece as Buffer);
    const body = Buffer.concat(pieces);
    this.requests.push(`${request.method} ${request.url?.replace(/\?.*/, "")}`);
    if (await this.fault(request, response, body)) return;
    await this.serve(request, response, body);
  }

  async serve(request: IncomingMessage, response: ServerResponse, body: Buffer): Promise<void> {
    const key = decodeURIComponent((request.url ?? "").replace(/^\/bucket\//, "").replace(/\?.*/, ""));
    const condition = this.honoursConditions
      ? {
          ...given("ifMatch", request.headers["if-match"]),
          ...given("ifNoneMatch", request.headers["if-none-match"]),
        }
      : {};
    if (request.method === "PUT") {
      const token = request.headers["x-amz-meta-skep-write"];
      const metadata: Record<string, string> = typeof token === "string" ? { "skep-write": token } : {};
      const { etag } = await this.objects.put(key, body, { ...condition, metadata });
      response.writeHead(200, { etag: `"${etag}"` }).end();
    } else if (request.method === "DELETE") {
      await this.objects.delete(key);
      response.writeHead(204).end();
    } else {
      const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
      const found = await this.objects.get(key, {
        ...(condition.ifMatch === undefined ? {} : { ifMatch: condition.ifMatch }),
        ...(range === null
          ? {}
          : { range: { start: Number(range[1]), ...(range[2] ? { end: Number(range[2]) + 1 } : {}) } }),
      });
      const { start, end } = found.range;
      response.writeHead(range === null ? 200 : 206, {
        etag: `"${found.etag}"`,
        "content-length": end - start,
        "last-modified": new Date(found.modifiedAt).toUTCString(),
        ...(range === null ? {} : { "content-range": `bytes ${start}-${end - 1}/${found.sizeBytes}` }),
        ...Object.fromEntries(
          Object.entries(found.metadata).map(([name, value]) => [`x-amz-meta-${name}`, value]),
        ),
      });
      if (request.method === "HEAD") response.end();
      else response.end(await collect(found.body));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const store of this.#opened) await store[Symbol.asyncDispose]();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

function given<K extends string>(name: K, value: string | undefined): Partial<Record<K, string>> {
  return value === undefined ? {} : ({ [name]: value.replaceAll('"', "") } as Record<K, string>);
}

function answer(response: ServerResponse, status: number, code: string): void {
  response
    .writeHead(status, { "content-type": "application/xml" })
    .end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>no</Message></Error>`);
}

async function collect(body: Bytes): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of body) all.push(piece);
  return Buffer.concat(all);
}

/** Carries the request out and loses the answer, so many times, for requests that fit. */
function losingAnswers(
  server: FaultyServer,
  times: number,
  fits: (request: IncomingMessage) => boolean,
): void {
  let left = times;
  server.fault = async (request, response, body) => {
    if (left === 0 || !fits(request)) return false;
    left -= 1;
    const lost = { writeHead: () => lost, end: () => lost };
    await server.serve(request, lost as unknown as ServerResponse, body);
    response.destroy();
    return true;
  };
}

const code = (wanted: string) => (error: unknown) => error instanceof SkepError && error.code === wanted;
const isPutOf = (key: string) => (request: IncomingMessage) =>
  request.method === "PUT" && request.url?.startsWith(`/bucket/${key}?`) === true;

describe("a foreign store", () => {
  test("counts a conditional put once whose answer was lost", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    losingAnswers(server, 1, isPutOf("lock"));
    const put = await store.put("lock", Buffer.from("mine"), { ifNoneMatch: "*", metadata: {} });
    equal((await store.head("lock")).etag, put.etag);
    deepEqual((await store.head("lock")).metadata, {});
    losingAnswers(server, 1, isPutOf("lock"));
    const next = await store.put("lock", Buffer.from("mine again"), { ifMatch: put.etag });
    equal(String(await collect((await store.get("lock")).body)), "mine again");
    equal((await store.head("lock")).etag, next.etag);
  });

  test("does not take another's write for its own, though the bytes are the same", async () => {
    await using server = await FaultyServer.start();
    const [one, other] = [server.store(), server.store()];
    await other.put("lock", Buffer.from("same"), { ifNoneMatch: "*" });
    let isFirst = true;
    server.fault = (request, response) => {
      if (!isFirst || !isPutOf("lock")(request)) return false;
      isFirst = false;
      response.destroy();
      return true;
    };
    await rejects(one.put("lock", Buffer.from("same"), { ifNoneMatch: "*" }), code("PRECONDITION_FAILED"));
  });

  test("sends again what a busy or breaking server did not take", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    let faults = 0;
    server.fault = (_, response) => {
      faults += 1;
      if (faults % 3 === 0) return false;
      if (faults % 3 === 1) answer(response, 503, "SlowDown");
      else response.destroy();
      return true;
    };
    await store.put("busy", Buffer.from("x"));
    equal(String(await collect((await store.get("busy")).body)), "x");
    await store.delete("busy");
    await rejects(store.head("busy"), code("OBJECT_NOT_FOUND"));
  });

  test("gives up in the end, and says whom it asked", async () => {
    await using server = await FaultyServer.start();
    const store = server.store({ attempts: 3 });
    server.fault = (_, response) => {
      answer(response, 500, "InternalError");
      return true;
    };
    await rejects(store.put("down", Buffer.from("x")), (error: SkepError) => {
      equal(error.code, "FOREIGN_FAILED");
      ok(error.message.includes("127.0.0.1") && error.message.includes("InternalError"), error.message);
      ok(error.cause instanceof Error);
      return true;
    });
    equal(server.requests.length, 3);
  });

  test("does not repeat what is refused for good", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    server.fault = (_, response) => {
      answer(response, 403, "AccessDenied");
      return true;
    };
    await rejects(store.get("secret"), code("FOREIGN_FAILED"));
    equal(server.requests.length, 1);
  });

  test("refuses conditional puts where the endpoint ignores conditions, having tried it once", async () => {
    await using server = await FaultyServer.start();
    server.honoursConditions = false;
    const store = server.store({ prefix: "below/" });
    await store.put("key", Buffer.from("there"));
    for (let round = 0; round < 3; round += 1) {
      await rejects(store.put("key", Buffer.from("x"), { ifNoneMatch: "*" }), code("FOREIGN_CONDITIONS"));
    }
    equal(await store.honours("put if none match"), false);
    equal(String(await collect((await store.get("key")).body)), "there");
    equal(server.requests.filter((one) => one.startsWith("DELETE /bucket/below/.skep-probe-")).length, 1);
    deepEqual((await server.objects.list()).objects.length, 1);
  });

  test("goes on reading where a connection broke", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    const bytes = randomBytes(3_000_000);
    await server.objects.put("large", bytes);
    let cuts = 0;
    server.fault = async (request, response) => {
      if (request.method !== "GET") return false;
      cuts += 1;
      const start = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? "bytes=0-")?.[1]);
      const { etag } = await server.objects.head("large");
      response.writeHead(start === 0 ? 200 : 206, {
        etag: `"${etag}"`,
        "content-length": bytes.length - start,
        "content-range": `bytes ${start}-${bytes.length - 1}/${bytes.length}`,
      });
      response.write(bytes.subarray(start, start + 1_000_000), () => response.destroy());
      return true;
    };
    const got = await store.get("large");
    ok((await collect(got.body)).equals(bytes));
    ok(cuts >= 3, `${cuts} connections`);
  });

  test("does not join the bytes of two versions", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    await server.objects.put("changing", Buffer.alloc(3_000_000, 1));
    let isFirst = true;
    server.fault = async (request, response) => {
      if (request.method !== "GET" || !isFirst) return false;
      isFirst = false;
      const { etag } = await server.objects.head("changing");
      response.writeHead(200, { etag: `"${etag}"`, "content-length": 3_000_000 });
      await server.objects.put("changing", Buffer.alloc(3_000_000, 2));
      response.write(Buffer.alloc(1_000_000, 1), () => response.destroy());
      return true;
    };
    await rejects(collect((await store.get("changing")).body), code("PRECONDITION_FAILED"));
  });

  test("does not wait for a server that says nothing", async () => {
    await using server = await FaultyServer.start();
    const store = server.store({ timeoutMs: 100, attempts: 2 });
    server.fault = () => true;
    await rejects(store.head("silent"), code("FOREIGN_FAILED"));
    equal(server.requests.length, 2);
  });

  test("gives up when it is told to", async () => {
    await using server = await FaultyServer.start();
    const store = server.store();
    const controller = new AbortController();
    server.fault = () => {
      controller.abort();
      return true;
    };
    const { signal } = controller;
    await rejects(store.put("never", Buffer.from("x"), { signal }), { name: "AbortError" });
  });

  test("says that nothing listens", async () => {
    const store = new ForeignStore({
      endpoint: "http://127.0.0.1:1",
      bucket: "bucket",
      credentials: { accessKeyId: "key", secret: "secret" },
      attempts: 2,
      pauseMs: 1,
    });
    await rejects(store.head("key"), code("FOREIGN_FAILED"));
    await store[Symbol.asyncDispose]();
  });
});
