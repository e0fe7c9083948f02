import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { NbdClient } from "./client.ts";
import { listExports } from "./client-handshake.ts";
import { NbdError } from "./errors.ts";
import { deviceWith, MiB, serve, until } from "./fixture.ts";
import { MemoryDevice } from "./memory.ts";

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

  it("lend memory for answers, and use it again only when these have left", async () => {
    const size = 256 * 1024;
    const lent = new Set<ArrayBufferLike>();
    let kept: Buffer | undefined;
    const device = deviceWith({
      read: async (offset, length, { lend }) => {
        assert.ok(lend !== undefined);
        const memory = lend(length);
        lent.add(memory.buffer);
        await new Promise((resolve) => setImmediate(resolve));
        memory.fill(offset / size + 1);
        // One that is kept by the device is nobody else's.
        if (offset === 0 && kept === undefined) {
          kept = memory;
          return Buffer.from(memory);
        }
        return offset % (2 * size) === 0 ? memory : [memory.subarray(0, 100), memory.subarray(100)];
      },
    });
    await using served = await serve(device);
    await using client = await NbdClient.connect({ uri: served.uri() });
    const rounds = 20;
    for (let round = 0; round < rounds; round += 1) {
      const reads = Array.from({ length: 8 }, (_, i) => client.read(i * size, size));
      for (const [i, bytes] of (await Promise.all(reads)).entries()) {
        assert.ok(
          bytes.every((byte) => byte === i + 1),
          `read ${i} of round ${round}`,
        );
      }
    }
    assert.ok(kept?.every((byte) => byte === 1));
    assert.ok(lent.size < 4 * rounds, `${lent.size} pieces of memory for ${8 * rounds} reads`);
  });

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
    const path = join(served.directory, "only-b.sock");
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
