import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, stat } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { NbdClient } from "./client.ts";
import { listExports } from "./client-handshake.ts";
import { putRequest, type Request, requestBytes } from "./codec.ts";
import type { BlockDevice, Export } from "./device.ts";
import { NbdError } from "./errors.ts";
import { encodeClientFlags, encodeInfoRequest, encodeOption } from "./handshake-codec.ts";
import { MemoryDevice } from "./memory.ts";
import { Command, CommandFlag, Option } from "./protocol.ts";
import { NbdServer, type NbdServerOptions } from "./server.ts";

const MiB = 1024 * 1024;
let directory: string;
let sockets = 0;
before(async () => {
  directory = await mkdtemp("/tmp/skep-nbd-");
});
after(() => rm(directory, { recursive: true, force: true }));

interface Served extends AsyncDisposable {
  server: NbdServer;
  path: string;
  uri(name?: string): string;
}

async function serve(device: BlockDevice | Export[], options: NbdServerOptions = {}): Promise<Served> {
  sockets += 1;
  const path = join(directory, `${sockets}.sock`);
  const server = new NbdServer(options);
  for (const entry of Array.isArray(device) ? device : [{ name: "disk", device }]) server.add(entry);
  await server.listen({ path });
  return {
    server,
    path,
    uri: (name = "") => `nbd+unix:///${name}?socket=${path}`,
    [Symbol.asyncDispose]: () => server.close({ graceMs: 0 }),
  };
}

/** A memory device with some of its methods replaced. */
function deviceWith(methods: Partial<BlockDevice>): BlockDevice {
  const memory = new MemoryDevice({ sizeBytes: 64 * MiB });
  return new Proxy(memory, {
    get: (target, name) => {
      if (name in methods) return methods[name as keyof BlockDevice];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  }) as BlockDevice;
}

/** Waits until something is so. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** A client that says what it wants: in the transmission phase, with simple replies. */
async function rawClient(path: string): Promise<Socket> {
  const socket = connect(path);
  socket.write(encodeClientFlags({ fixedNewstyle: true, noZeroes: true }));
  socket.write(encodeOption(Option.go, encodeInfoRequest({ name: "", infos: [] })));
  const ends = Buffer.from([0, 0, 0, Option.go, 0, 0, 0, 1, 0, 0, 0, 0]);
  let seen = Buffer.alloc(0);
  while (!seen.includes(ends)) seen = Buffer.concat([seen, ((await once(socket, "data")) as [Buffer])[0]]);
  return socket;
}

function request(fields: Partial<Request>): Buffer {
  const header = Buffer.alloc(requestBytes);
  const base = { flags: 0, command: Command.read, cookieHigh: 0, cookieLow: 0, offset: 0, length: 0 };
  putRequest(header, 0, { ...base, ...fields });
  return header;
}

describe("NbdServer and NbdClient", () => {
  for (const structuredReplies of [true, false]) {
    it(`keep what is written, with ${structuredReplies ? "structured" : "simple"} replies`, async () => {
      const device = new MemoryDevice({ sizeBytes: 64 * MiB });
      await using served = await serve(device);
      await using client = await NbdClient.connect({ uri: served.uri("disk"), structuredReplies });
      assert.equal(client.sizeBytes, 64 * MiB);
      assert.equal(client.structured, structuredReplies);
      assert.deepEqual(client.blockSizes, { minimum: 1, preferred: 4096, maximum: 32 * MiB });
      const data = Buffer.alloc(3 * MiB, "0123456789");
      await client.write(MiB - 5, data, { fua: true });
      await client.flush();
      const around = await client.read(0, 8 * MiB);
      assert.ok(around.subarray(MiB - 5, 4 * MiB - 5).equals(data));
      assert.ok(around.subarray(0, MiB - 5).every((byte) => byte === 0));
      assert.ok((await client.read(0, 8 * MiB, structuredReplies ? { df: true } : {})).equals(around));
      await client.writeZeroes(2 * MiB, MiB, { fast: true });
      await client.trim(3 * MiB, 100);
      await client.cache(0, MiB);
      assert.ok((await client.read(2 * MiB, MiB)).every((byte) => byte === 0));
      if (structuredReplies) {
        const extents = await client.blockStatus(0, 8 * MiB);
        assert.deepEqual(
          extents.map(({ length, hole, zero }) => [length / 65536, hole, zero]),
          [
            [15, true, true],
            [17, false, false],
            [16, true, true],
            [16, false, false],
            [64, true, true],
          ],
        );
        assert.equal((await client.blockStatus(0, 8 * MiB, { one: true })).length, 1);
      } else await assert.rejects(client.blockStatus(0, MiB), { code: "NBD_UNSUPPORTED" });
    });
  }

  it("run requests in parallel and answer in any order", async () => {
    const waiting: (() => void)[] = [];
    const device = deviceWith({
      read: (offset, length) =>
        new Promise((resolve) => {
          waiting.push(() => resolve(Buffer.alloc(length, offset)));
        }),
    });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    const order: number[] = [];
    const reads = [1, 2, 3].map(async (offset) => {
      const bytes = await client.read(offset, 4);
      order.push(offset);
      assert.deepEqual([...bytes], [offset, offset, offset, offset]);
    });
    await until(() => waiting.length === 3);
    for (const finish of waiting.reverse()) {
      const before = order.length;
      finish();
      await until(() => order.length > before);
    }
    await Promise.all(reads);
    assert.deepEqual(order, [3, 2, 1]);
  });

  it("map what goes wrong in the device to NBD's errors, with offset and sentence", async () => {
    const errors: unknown[] = [];
    let next: unknown;
    const device = deviceWith({
      write: () => {
        throw next;
      },
      read: () => Promise.reject(next),
    });
    await using served = await serve(device, { onError: (error) => errors.push(error) });
    await using client = await NbdClient.connect({ uri: served.uri() });
    next = new NbdError("ENOSPC", "the pool is full", { offset: 4098 });
    await assert.rejects(client.write(4096, Buffer.alloc(8)), (error) => {
      assert.ok(error instanceof NbdError);
      assert.deepEqual([error.errno, error.offset], ["ENOSPC", 4098]);
      assert.match(error.message, /write of 8 bytes at 4096.*ENOSPC \(the pool is full\)/);
      return true;
    });
    assert.deepEqual(errors, []);
    const system = (code: string) => Object.assign(new Error("a path that is nobody's business"), { code });
    for (const [code, errno] of [
      ["EDQUOT", "ENOSPC"],
      ["EROFS", "EPERM"],
      ["ENOMEM", "ENOMEM"],
      ["EBUSY", "EIO"],
      ["ESHUTDOWN", "ESHUTDOWN"],
    ]) {
      next = system(code as string);
      await assert.rejects(client.read(0, 8), (error) => {
        assert.equal((error as NbdError).errno, errno);
        assert.doesNotMatch((error as NbdError).message, /business/);
        return true;
      });
    }
    assert.equal(errors.length, 5);
  });

  it("do not take a device's word for how much it read", async () => {
    const device = deviceWith({ read: () => Buffer.alloc(3) });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    await assert.rejects(client.read(0, 8), { errno: "EIO" });
  });

  it("refuse what the protocol does not allow, and go on", async () => {
    const device = new MemoryDevice({ sizeBytes: 64 * MiB, blockSizes: { minimum: 512, maximum: MiB } });
    await using served = await serve(
      [
        { name: "disk", device },
        { name: "locked", device, readOnly: true },
      ],
      { limits: { maxPayloadBytes: MiB } },
    );
    await using client = await NbdClient.connect({ uri: served.uri("disk") });
    await using locked = await NbdClient.connect({ uri: served.uri("locked") });
    assert.ok(locked.readOnly && !client.readOnly);
    const cases: [() => Promise<unknown>, string][] = [
      [() => client.read(64 * MiB, 512), "EINVAL"],
      [() => client.read(1, 512), "EINVAL"],
      [() => client.read(0, 2 * MiB), "EINVAL"],
      [() => client.read(0, 2 * MiB, { df: true }), "EOVERFLOW"],
      [() => client.write(64 * MiB - 512, Buffer.alloc(1024)), "ENOSPC"],
      [() => client.write(0, Buffer.alloc(2 * MiB)), "EINVAL"],
      [() => client.writeZeroes(64 * MiB, 512), "ENOSPC"],
      [() => client.writeZeroes(0, 65536, { noHole: true, fast: true }), "ENOTSUP"],
      [() => client.trim(64 * MiB, 512), "EINVAL"],
      [() => client.blockStatus(0, 0), "EINVAL"],
      [() => client.blockStatus(63 * MiB, 2 * MiB), "EINVAL"],
      [() => locked.write(0, Buffer.alloc(512)), "EPERM"],
    ];
    for (const [call, errno] of cases) await assert.rejects(call(), { errno });
    assert.equal((await client.read(0, 0)).length, 0);
    await client.write(0, Buffer.alloc(0));
    await client.writeZeroes(0, 64 * MiB);
    await client.trim(0, 64 * MiB);
    assert.equal(device.storedBytes, 0);
  });

  it("count every write as FUA where the export says so", async () => {
    const seen: boolean[] = [];
    const device = deviceWith({
      write: (_, __, { fua }) => {
        seen.push(fua);
      },
    });
    await using served = await serve([{ name: "vars", device, everyWriteFua: true }]);
    await using client = await NbdClient.connect({ uri: served.uri("vars") });
    await client.write(0, Buffer.alloc(8));
    assert.deepEqual(seen, [true]);
  });

  it("show exports by name, and at some sockets only one", async () => {
    const [a, b] = [1, 2].map((size) => new MemoryDevice({ sizeBytes: size * MiB })) as [
      MemoryDevice,
      MemoryDevice,
    ];
    await using served = await serve([
      { name: "a", device: a, description: "the first" },
      { name: "b", device: b },
    ]);
    assert.deepEqual(await listExports({ uri: served.uri() }), [
      { name: "a", description: "the first" },
      { name: "b", description: "" },
    ]);
    await assert.rejects(NbdClient.connect({ uri: served.uri("c") }), { code: "NBD_EXPORT_UNKNOWN" });
    await assert.rejects(NbdClient.connect({ uri: served.uri("") }), { code: "NBD_EXPORT_UNKNOWN" });
    const path = join(directory, "only-b.sock");
    await served.server.listen({ path, only: "b" });
    await using client = await NbdClient.connect({ uri: `nbd+unix:///?socket=${path}` });
    assert.equal(client.sizeBytes, 2 * MiB);
    await assert.rejects(NbdClient.connect({ uri: `nbd+unix:///a?socket=${path}` }), {
      code: "NBD_EXPORT_UNKNOWN",
    });
  });

  it("show a new size to those who connect again, and serve the old clients on", async () => {
    const device = new MemoryDevice({ sizeBytes: 4 * MiB });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    device.resize(8 * MiB);
    await client.write(6 * MiB, Buffer.from("new room"));
    await served.server.reconnect("disk");
    assert.equal((await client.closed).code, "NBD_CLOSED");
    await using again = await NbdClient.connect({ uri: served.uri() });
    assert.equal(again.sizeBytes, 8 * MiB);
    assert.equal((await again.read(6 * MiB, 8)).toString(), "new room");
  });
});

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
    const dead = join(directory, "dead.sock");
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
