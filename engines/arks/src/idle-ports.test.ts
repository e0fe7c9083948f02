import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, it } from "node:test";
import type { Port } from "@skep/api/schemas";
import { freePort } from "@skep/base/testing";
import { HeldPorts } from "./idle-ports.ts";
import { acceptQueue } from "./idle-tcp.ts";

/** What a guest's server would be: tells what it was sent, once that has ended. */
let guest: Server;
let held: HeldPorts;
let calls: number;
/** Connections that skep made itself. */
let own: Socket[];

beforeEach(async () => {
  guest = await serve(0);
  calls = 0;
  own = [];
  held = new HeldPorts({
    onCall() {
      calls += 1;
    },
    isOwn: ({ remotePort }) => own.some(({ localPort }) => localPort === remotePort),
  });
});
afterEach(() => {
  held.destroy();
  guest.close();
});

async function serve(port: number): Promise<Server> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    void text(socket).then((said) => socket.end(`${said.length} ${said.slice(0, 5)}`));
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return server;
}

const target = () => ({ hostAddress: "127.0.0.1", hostPort: (guest.address() as AddressInfo).port });

async function unused(protocol: Port["protocol"] = "tcp"): Promise<Port> {
  return { hostAddress: "127.0.0.1", hostPort: await freePort(), guestPort: 80, protocol, automatic: false };
}

const call = (port: Port): Socket => connect({ port: port.hostPort, host: "127.0.0.1", allowHalfOpen: true });

describe("ports that are held", () => {
  it("keep connections until the guest is there, and let each half end by itself", async () => {
    const port = await unused();
    assert.deepEqual(await held.listen([port]), []);
    const clients = Array.from({ length: 20 }, () => call(port));
    const answers = clients.map((client, at) => {
      client.end("x".repeat(at === 0 ? 3_000_000 : 3));
      return text(client);
    });
    await Promise.all(clients.map((client) => once(client, "connect")));
    while (calls < clients.length) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.ok(held.isCalled);
    await held.release(port);
    held.handOn(port, target());
    const [first, ...others] = await Promise.all(answers);
    assert.equal(first, "3000000 xxxxx");
    assert.deepEqual(new Set(others), new Set(["3 xxx"]));
    assert.ok(!held.isCalled);
    const refused = call(port);
    await assert.rejects(once(refused, "connect"), { code: "ECONNREFUSED" });
  });

  it("are given up without a loss while many come, those included that were not accepted yet", async (t) => {
    const port = await unused();
    await held.listen([port]);
    const answers = Array.from({ length: 100 }, () => {
      const client = call(port);
      client.end("xyz");
      return text(client);
    });
    // The kernel has them all then, of which a turn of the loop accepts one.
    await new Promise((resolve) => setImmediate(resolve));
    await held.release(port);
    const next = await serve(port.hostPort);
    t.after(() => next.close());
    held.handOn(port, port);
    assert.deepEqual(new Set(await Promise.all(answers)), new Set(["3 xyz"]));
    assert.equal(calls, answers.length);
  });

  it("are handed on one at a time, for QEMU's own queue is short", async () => {
    const port = await unused();
    await held.listen([port]);
    const { hostAddress: address, hostPort } = target();
    const queues: Promise<number>[] = [];
    guest.on("connection", () => queues.push(acceptQueue({ address, port: hostPort })));
    const answers = Array.from({ length: 20 }, () => text(call(port).end("xyz")));
    while (calls < answers.length) await new Promise((resolve) => setTimeout(resolve, 5));
    held.handOn(port, target());
    await Promise.all(answers);
    const longest = Math.max(...(await Promise.all(queues)));
    assert.ok(longest <= 1, `${longest} were in its queue`);
  });

  it("are free at once when they are released, for somebody else to listen on", async () => {
    const port = await unused();
    await held.listen([port]);
    await held.release(port);
    const other = createServer().listen(port.hostPort, "127.0.0.1");
    await once(other, "listening");
    const [failed] = await held.listen([port]);
    assert.deepEqual([failed?.port, failed?.why], [port, "another program uses it"]);
    other.close();
  });

  it("are not called by skep itself, which waits as all others do", async () => {
    const port = await unused();
    await held.listen([port]);
    const check = call(port);
    own.push(check);
    const answer = text(check);
    check.end("check");
    await once(check, "connect");
    await held.release(port);
    assert.deepEqual([held.isCalled, calls], [false, 0]);
    held.handOn(port, target());
    assert.equal(await answer, "5 check");
  });

  it("stay free once they were given up, also where that was just when they were to be held", async () => {
    const port = await unused();
    const listening = held.listen([port]);
    held.destroy();
    await assert.rejects(listening, { name: "AbortError" });
    await assert.rejects(held.listen([port]), { name: "AbortError" });
    const refused = call(port);
    await assert.rejects(once(refused, "connect"), { code: "ECONNREFUSED" });
  });

  it("end whoever waits when nobody will answer, or the port is no longer the machine's", async () => {
    const [kept, dropped] = [await unused(), await unused()];
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
    const port = await unused();
    await held.listen([port]);
    const client = call(port);
    const error = once(client.resume(), "error");
    while (calls < 1) await new Promise((resolve) => setTimeout(resolve, 5));
    const nobody = await unused();
    held.handOn(port, nobody);
    assert.equal(((await error)[0] as NodeJS.ErrnoException).code, "ECONNRESET");
  });

  it("over UDP say that somebody called", async () => {
    const port = await unused("udp");
    await held.listen([port]);
    const client = createSocket("udp4");
    client.send("anybody?", port.hostPort, "127.0.0.1");
    while (calls < 1) await new Promise((resolve) => setTimeout(resolve, 5));
    client.close();
    assert.ok(!held.isCalled);
  });
});
