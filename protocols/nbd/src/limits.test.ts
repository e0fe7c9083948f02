import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { stat } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, it } from "node:test";
import { NbdClient } from "./client.ts";
import { deviceWith, MiB, rawClient, request, serve, until } from "./fixture.ts";
import { MemoryDevice } from "./memory.ts";
import { Command, CommandFlag } from "./protocol.ts";
import { NbdServer } from "./server.ts";

describe("NbdServer", () => {
  it("answers what is in flight before it closes, begins nothing more, and lets nobody in", async () => {
    let finish = () => {};
    const device = deviceWith({
      write: () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
    });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    let began = false;
    const write = client.write(0, Buffer.alloc(8)).then(() => {
      began = true;
    });
    await client.read(0, 8);
    const closing = served.server.close();
    finish();
    await Promise.all([closing, write]);
    assert.ok(began);
    await assert.rejects(client.read(0, 8), { code: "NBD_CLOSED" });
    await assert.rejects(NbdClient.connect({ uri: served.uri() }), { code: "NBD_UNREACHABLE" });
  });

  it("waits no longer than it was told for a device that hangs", async () => {
    const device = deviceWith({ write: () => new Promise(() => {}) });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    const write = assert.rejects(client.write(0, Buffer.alloc(8)), { code: "NBD_CLOSED" });
    await client.read(0, 8);
    await served.server.close({ graceMs: 20 });
    await write;
  });

  it("removes an export once its device is no longer used", async () => {
    let finish = () => {};
    const device = deviceWith({
      flush: () =>
        new Promise((resolve) => {
          finish = resolve;
        }),
    });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    assert.equal(served.server.clients("disk"), 1);
    const flush = client.flush();
    await client.read(0, 8);
    let removed = false;
    const removing = served.server.remove("disk").then(() => {
      removed = true;
    });
    await assert.rejects(NbdClient.connect({ uri: served.uri("disk") }), { code: "NBD_EXPORT_UNKNOWN" });
    assert.equal(removed, false);
    finish();
    await Promise.all([flush, removing]);
    assert.equal(served.server.clients("disk"), 0);
  });

  it("holds bounded memory for a client that does not read, and goes on when it does", async () => {
    let reads = 0;
    const piece = Buffer.alloc(MiB, 1);
    const device = deviceWith({
      read: () => {
        reads += 1;
        return piece;
      },
    });
    await using served = await serve(device, { limits: { maxBytes: 4 * MiB } });
    const socket = await rawClient(served.path);
    socket.pause();
    const total = 200;
    for (let i = 0; i < total; i += 1) socket.write(request({ cookieLow: i, length: MiB }));
    await until(() => reads >= 4);
    await new Promise((resolve) => setTimeout(resolve, 50));
    // Four in memory, and what the kernel took of them lets few others begin.
    assert.ok(reads < 10, `${reads} reads were begun`);
    let got = 0;
    socket.on("data", (bytes) => {
      got += bytes.length;
    });
    socket.resume();
    await until(() => got === total * (16 + MiB));
    assert.equal(reads, total);
    socket.destroy();
  });

  it("begins no more requests than it was told, and stops reading then", async () => {
    const waiting: (() => void)[] = [];
    const device = deviceWith({ flush: () => new Promise((resolve) => waiting.push(resolve)) });
    await using served = await serve(device, { limits: { maxRequests: 8 } });
    await using client = await NbdClient.connect({ uri: served.uri() });
    const flushes = Array.from({ length: 100 }, () => client.flush());
    let most = 0;
    for (let done = 0; done < 100; done += 1) {
      await until(() => waiting.length > 0);
      most = Math.max(most, waiting.length);
      waiting.shift()?.();
    }
    await Promise.all(flushes);
    assert.equal(most, 8);
  });

  it("tells a device that nobody waits for a read any more", async () => {
    let begun = false;
    let gone = false;
    const device = deviceWith({
      read: (_, __, { signal }) =>
        new Promise((_resolve, reject) => {
          begun = true;
          signal.addEventListener("abort", () => {
            gone = true;
            reject(signal.reason);
          });
        }),
    });
    await using served = await serve(device);
    const socket = await rawClient(served.path);
    socket.write(request({ length: 8 }));
    await until(() => begun);
    socket.destroy();
    await until(() => gone);
    await until(() => served.server.clients() === 0);
  });

  it("answers a client that says goodbye and closes its side, then ends", async () => {
    await using served = await serve(new MemoryDevice({ sizeBytes: MiB }));
    const socket = await rawClient(served.path);
    let got = 0;
    socket.on("data", (bytes) => {
      got += bytes.length;
    });
    socket.end(Buffer.concat([request({ length: 4096 }), request({ command: Command.disconnect })]));
    await once(socket, "close");
    assert.equal(got, 16 + 4096);
  });

  it("ends handshakes that take too long, idle connections, and those above its number", async () => {
    const limits = { handshakeTimeoutMs: 30, idleTimeoutMs: 50, maxConnections: 2 };
    await using served = await serve(new MemoryDevice({ sizeBytes: MiB }), { limits });
    const silent = connect(served.path).resume();
    const second = connect(served.path).resume();
    const third = connect(served.path).resume();
    third.on("error", () => {});
    await once(third, "close");
    await Promise.all([once(silent, "close"), once(second, "close")]);
    const client = await NbdClient.connect({ uri: served.uri() });
    assert.equal((await client.closed).code, "NBD_CLOSED");
  });

  it("outlives a thousand connections at once, and serves when they are gone", async () => {
    const limits = { maxConnections: 50 };
    await using served = await serve(new MemoryDevice({ sizeBytes: MiB }), { limits });
    const crowd = Array.from({ length: 1000 }, () => connect(served.path).on("error", () => {}));
    await until(
      () => crowd.filter(({ destroyed }) => destroyed).length >= 950 || !crowd.some((c) => c.pending),
    );
    assert.ok(served.server.clients() <= 50);
    for (const socket of crowd) socket.destroy();
    await until(() => served.server.clients() === 0);
    await using client = await NbdClient.connect({ uri: served.uri() });
    await client.read(0, 4096);
  });

  it("drops a connection that breaks the protocol, and refuses flags it does not know", async () => {
    await using served = await serve(new MemoryDevice({ sizeBytes: MiB }));
    const broken = await rawClient(served.path);
    broken.on("error", () => {});
    broken.resume().write(Buffer.alloc(100, 1));
    await once(broken, "close");
    const odd = await rawClient(served.path);
    odd.write(request({ command: Command.flush, flags: CommandFlag.noHole }));
    const [answer] = (await once(odd, "data")) as [Buffer];
    assert.equal(answer.readUInt32BE(4), 22);
    odd.write(request({ command: 77 }));
    assert.equal(((await once(odd, "data")) as [Buffer])[0].readUInt32BE(4), 22);
    odd.destroy();
  });

  it("makes its socket this user's alone, replaces a dead one, and leaves a living one", async () => {
    await using served = await serve(new MemoryDevice({ sizeBytes: MiB }));
    assert.equal((await stat(served.path)).mode & 0o777, 0o600);
    await using other = new NbdServer();
    await assert.rejects(other.listen({ path: served.path }), {
      code: "NBD_LISTEN_FAILED",
      message: /another program/,
    });
    const dead = join(served.directory, "dead.sock");
    spawnSync(process.execPath, [
      "-e",
      `require("node:net").createServer().listen(${JSON.stringify(dead)}, () => process.kill(process.pid, "SIGKILL"))`,
    ]);
    await once(connect(dead), "error");
    await other.listen({ path: dead });
  });

  it("does not serve the network without TLS", async () => {
    await using server = new NbdServer();
    await assert.rejects(server.listen({ host: "0.0.0.0", port: 0 }), { code: "NBD_OPEN_TO_ALL" });
  });

  it("refuses names and block sizes that the protocol cannot carry", () => {
    const server = new NbdServer();
    const device = new MemoryDevice({ sizeBytes: MiB });
    server.add({ name: "a", device });
    assert.throws(() => server.add({ name: "a", device }), { code: "NBD_EXPORT_EXISTS" });
    assert.throws(() => server.add({ name: "x".repeat(5000), device }), { code: "NBD_EXPORT_INVALID" });
    const odd = new MemoryDevice({ sizeBytes: MiB, blockSizes: { minimum: 3 } });
    assert.throws(() => server.add({ name: "b", device: odd }), { code: "NBD_EXPORT_INVALID" });
  });
});
