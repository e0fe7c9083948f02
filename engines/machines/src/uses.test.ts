import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { Uses } from "./uses.ts";

test("a connection of our own is told from any other when it is first seen on this host, and after its end", async (t) => {
  const uses = new Uses();
  const seen: { own: boolean; elsewhere: boolean }[] = [];
  const server = createServer((client) => {
    const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = client;
    const [from, to] = [
      { address: remoteAddress, port: remotePort },
      { address: localAddress, port: localPort },
    ];
    const elsewhere = { ...to, port: to.port + 1 };
    seen.push({ own: uses.isOwn(from, to), elsewhere: uses.isOwn(from, elsewhere) });
    client.resume().end();
  }).listen(0, "127.0.0.1");
  t.after(() => server.close());
  await once(server, "listening");
  const to = { host: "127.0.0.1", port: (server.address() as AddressInfo).port };
  const ended = async (socket: Socket) => {
    await once(socket, "connect");
    const ends = [
      { address: socket.localAddress ?? "", port: socket.localPort ?? 0 },
      { address: to.host, port: to.port },
    ] as const;
    socket.resume().end();
    await once(socket, "close");
    return ends;
  };
  const own = connect(to);
  uses.ownConnection(own, to);
  const ends = await ended(own);
  await ended(connect(to));
  assert.deepEqual(seen, [
    { own: true, elsewhere: false },
    { own: false, elsewhere: false },
  ]);
  assert.ok(uses.isOwn(...ends));
});
