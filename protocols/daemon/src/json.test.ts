import assert from "node:assert/strict";
import { mkdtemp, rm, stat } from "node:fs/promises";
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SkepError } from "@skep/base";
import { callJson, streamJson, watchEnd } from "./json-client.ts";
import { createJsonServer, type JsonRoute } from "./json-server.ts";
import { listenUnix } from "./listen.ts";

async function serving(
  ...routes: JsonRoute[]
): Promise<AsyncDisposable & { socket: string; server: Server; failures: unknown[] }> {
  const directory = await mkdtemp(join(tmpdir(), "sk-"));
  const socket = join(directory, "s");
  const failures: unknown[] = [];
  const server = createJsonServer(routes, (error) => failures.push(error));
  await listenUnix(server, socket);
  return {
    socket,
    server,
    failures,
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

test("paths, queries and bodies arrive; JSON, text and nothing come back", async () => {
  await using t = await serving(
    {
      method: "POST",
      path: "/things/:name",
      handle: ({ params, query, body }) => ({ ...params, q: query.get("q"), body }),
    },
    { method: "GET", path: "/text", handle: () => "one\ntwo" },
    { method: "DELETE", path: "/things/:name", handle: () => undefined },
  );
  const call = { method: "POST", path: "/things/a%2Fb?q=%20x", body: { deep: [1] } } as const;
  assert.deepEqual(await callJson(t.socket, call), { name: "a/b", q: " x", body: { deep: [1] } });
  assert.equal(await callJson(t.socket, { method: "GET", path: "/text" }), "one\ntwo");
  assert.equal(await callJson(t.socket, { method: "DELETE", path: "/things/x" }), undefined);
  assert.equal((await stat(t.socket)).mode & 0o777, 0o600);
});

test("errors come out as they were thrown, and faults are told to the server's log", async () => {
  const refused = new SkepError("THING_BUSY", 'thing "x" is busy', { hint: "wait", status: 409 });
  await using t = await serving(
    { method: "GET", path: "/busy", handle: () => Promise.reject(refused) },
    {
      method: "GET",
      path: "/broken",
      handle() {
        throw new TypeError("oops");
      },
    },
  );
  await assert.rejects(callJson(t.socket, { method: "GET", path: "/busy" }), {
    code: "THING_BUSY",
    message: 'thing "x" is busy',
    hint: "wait",
    status: 409,
  });
  await assert.rejects(callJson(t.socket, { method: "GET", path: "/broken" }), { code: "INTERNAL" });
  assert.equal(t.failures.length, 1);
  await assert.rejects(callJson(t.socket, { method: "GET", path: "/none" }), { code: "ROUTE_UNKNOWN" });
  await assert.rejects(callJson(t.socket, { method: "GET", path: "/%E0%A4%A" }), { code: "ROUTE_UNKNOWN" });
  await assert.rejects(callJson(`${t.socket}-none`, { method: "GET", path: "/" }), {
    code: "DAEMON_UNREACHABLE",
  });
});

test("many values come one by one, then how it ended; who leaves ends the work", async () => {
  const left = Promise.withResolvers<void>();
  await using t = await serving(
    {
      method: "GET",
      path: "/count",
      async *handle() {
        yield 1;
        yield { two: "line\nbreak" };
      },
    },
    {
      method: "GET",
      path: "/broken",
      async *handle() {
        yield 1;
        throw new SkepError("THING_BUSY", "busy", { hint: "wait", status: 409 });
      },
    },
    {
      method: "GET",
      path: "/forever",
      async *handle({ signal }) {
        signal.addEventListener("abort", () => left.resolve());
        yield "begun";
        await left.promise;
      },
    },
    {
      method: "GET",
      path: "/silent",
      async *handle({ signal }) {
        yield "begun";
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
      },
    },
  );
  assert.deepEqual(await all(streamJson(t.socket, { method: "GET", path: "/count" })), [
    1,
    { two: "line\nbreak" },
  ]);
  await assert.rejects(all(streamJson(t.socket, { method: "GET", path: "/broken" })), {
    code: "THING_BUSY",
    hint: "wait",
    status: 409,
  });
  await assert.rejects(all(streamJson(t.socket, { method: "GET", path: "/none" })), {
    code: "ROUTE_UNKNOWN",
  });
  for await (const item of streamJson(t.socket, { method: "GET", path: "/forever" })) {
    assert.equal(item, "begun");
    break;
  }
  await left.promise;
  const cut = streamJson(t.socket, { method: "GET", path: "/silent" });
  await cut.next();
  t.server.closeAllConnections();
  await assert.rejects(cut.next(), { code: "DAEMON_UNREACHABLE" });
});

test("whoever watches is told of the end", async () => {
  await using t = await serving();
  let ended = false;
  const watching = watchEnd(t.socket, new AbortController().signal).then(() => {
    ended = true;
  });
  while ((await connections(t.server)) === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(ended, false);
  t.server.closeAllConnections();
  await watching;
});

async function all(items: AsyncIterable<unknown>): Promise<unknown[]> {
  const list: unknown[] = [];
  for await (const item of items) list.push(item);
  return list;
}

function connections(server: Server): Promise<number> {
  return new Promise((resolve, reject) => {
    server.getConnections((error, count) => (error === null ? resolve(count) : reject(error)));
  });
}
