import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";
import { formatListen, listenTcp, parseListen } from "./listen.ts";

test("what is no address is refused, what is one is understood", () => {
  for (const bad of ["", "8440", "host:port", "1.2.3.4:99999", ":8440", "a/b:1", "[::1]"]) {
    assert.throws(() => parseListen(bad), { code: "LISTEN_INVALID" }, bad);
  }
  assert.deepEqual(parseListen("[::1]:8440"), { host: "::1", port: 8440 });
  assert.equal(formatListen({ host: "::1", port: 8440 }), "[::1]:8440");
});

test("it says which port it got, and why it cannot listen", async () => {
  const first = createServer();
  const second = createServer();
  try {
    const bound = await listenTcp(first, { host: "127.0.0.1", port: 0 });
    assert.ok(bound.port > 0);
    await assert.rejects(listenTcp(second, bound), {
      code: "LISTEN_FAILED",
      message: /another program listens there/,
    });
  } finally {
    first.close();
    second.close();
  }
});
