import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { Port } from "@skep/api/schemas";
import { HeldPorts } from "./idle-ports.ts";

/** What a guest's server would be: tells what it was sent, once that has ended. */
let guest: Server;
let held: HeldPorts;
let calls: number;

beforeEach(async () => {
  guest = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    void text(socket).then((said) => socket.end(`${said.length} ${said.slice(0, 5)}`));
  });
  guest.listen(0, "127.0.0.1");
  await once(guest, "listening");
  calls = 0;
  held = new HeldPorts(() => {
    calls += 1;
  });
});
afterEach(() => {
  held.destroy();
  guest.close();
});

const target = () => ({ host: "127.0.0.1", port: (guest.address() as AddressInfo).port });

async function freePort(protocol: Port["protocol"] = "tcp"): Promise<Port> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port: hostPort } = server.address() as AddressInfo;
  server.close();
  return { hostAddress: "127.0.0.1", hostPort, guestPort: 80, protocol, automatic: false };
}

const call = (port: Port): Socket => connect({ port: port.hostPort, host: "127.0.0.1", allowHalfOpen: true });

describe("ports that are held", () => {
  it("keep connections until the guest is there, and let each half end by itself", async () => {
    const port = await freePort();
    assert.deepEqual(await held.listen([port]), []);
    const clients = Array.from({ length: 20 }, () => call(port));
    const answers = clients.map((client, at) => {
      client.end("x".repeat(at === 0 ? 3_000_000 : 3));
      return text(client);
    });
    await Promise.all(clients.map((client) => once(client, "connect")));
    while (calls < clients.length) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.ok(held.isCalled);
    held.release(port);
    held.handOn(port, target());
    const [first, ...others] = await Promise.all(answers);
    assert.equal(first, "3000000 xxxxx");
    assert.deepEqual(new Set(others), new Set(["3 xxx"]));
    assert.ok(!held.isCalled);
    const refused = call(port);
    await assert.rejects(once(refused, "connect"), { code: "ECONNREFUSED" });
  });

  it("are free at once when they are released, for somebody else to listen on", async () => {
    const port = await freePort();
    await held.listen([port]);
    held.release(port);
    const other = createServer().listen(port.hostPort, "127.0.0.1");
    await once(other, "listening");
    const [failed] = await held.listen([port]);
    assert.deepEqual([failed?.port, failed?.why], [port, "another program uses it"]);
    other.close();
  });

  it("end whoever waits when nobody will answer, or the port is no longer the machine's", async () => {
    const [kept, dropped] = [await freePort(), await freePort()];
    await held.listen([kept, dropped]);
    const clients = [call(kept), call(dropped)];
    const ended = clients.map((client) =>
      assert.rejects(once(client.resume(), "end"), { code: "ECONNRESET" }),
    );
    while (calls < 2) await new Promise((resolve) => setTimeout(resolve, 5));
    await held.listen([kept]);
    await ended[1];
    assert.ok(held.isCalled);
    held.hangUp();
    await ended[0];
    assert.ok(!held.isCalled);
  });

  it("pass on that the guest refuses, or ends in the middle", async () => {
    const port = await freePort();
    await held.listen([port]);
    const client = call(port);
    const error = once(client.resume(), "error");
    while (calls < 1) await new Promise((resolve) => setTimeout(resolve, 5));
    const nobody = await freePort();
    held.handOn(port, { host: "127.0.0.1", port: nobody.hostPort });
    assert.equal(((await error)[0] as NodeJS.ErrnoException).code, "ECONNRESET");
  });

  it("over UDP say that somebody called", async () => {
    const port = await freePort("udp");
    await held.listen([port]);
    const client = createSocket("udp4");
    client.send("anybody?", port.hostPort, "127.0.0.1");
    while (calls < 1) await new Promise((resolve) => setTimeout(resolve, 5));
    client.close();
    assert.ok(!held.isCalled);
  });
});
