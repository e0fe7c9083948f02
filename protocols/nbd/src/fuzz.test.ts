import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { NbdClient } from "./client.ts";
import { putRequest, requestBytes } from "./codec.ts";
import {
  encodeClientFlags,
  encodeGreeting,
  encodeInfo,
  encodeInfoRequest,
  encodeMetaContext,
  encodeMetaContextRequest,
  encodeOption,
  encodeOptionReply,
} from "./handshake-codec.ts";
import { MemoryDevice } from "./memory.ts";
import { Command, Option, OptionReply } from "./protocol.ts";
import { NbdServer } from "./server.ts";

const MiB = 1024 * 1024;
const seeds = 400;
let directory: string;
before(async () => {
  directory = await mkdtemp("/tmp/skep-nbd-fuzz-");
});
after(() => rm(directory, { recursive: true, force: true }));

/** Numbers from 0 to `below`, the same for the same seed (mulberry32). */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  };
}

/** A session as honest as the seed lets it be. */
function session(random: (below: number) => number): Buffer {
  const parts = [encodeClientFlags({ fixedNewstyle: true, noZeroes: random(2) === 0 })];
  if (random(3) > 0) parts.push(encodeOption(Option.structuredReply));
  if (random(3) > 0) {
    const queries = [["base:allocation"], ["base:"], [], ["x-other:y"]][random(4)] as string[];
    parts.push(encodeOption(Option.setMetaContext, encodeMetaContextRequest({ name: "disk", queries })));
  }
  if (random(4) === 0) parts.push(encodeOption(random(20), Buffer.alloc(random(40), random(256))));
  parts.push(encodeOption(Option.go, encodeInfoRequest({ name: "disk", infos: [3] })));
  for (let i = random(40); i > 0; i -= 1) {
    const header = Buffer.alloc(requestBytes);
    const command = random(9);
    const length = random(20) === 0 ? random(2 ** 32) : random(100_000);
    const offset = random(20) === 0 ? random(2 ** 32) * 2 ** 20 : random(8 * MiB);
    const flags = random(3) === 0 ? 1 << random(6) : 0;
    putRequest(header, 0, { flags, command, cookieHigh: i, cookieLow: random(2 ** 32), offset, length });
    parts.push(header);
    if (command === Command.write) parts.push(Buffer.alloc(Math.min(length, 200_000), i));
  }
  return Buffer.concat(parts);
}

function mutate(bytes: Buffer, random: (below: number) => number): Buffer {
  const changed = Buffer.from(bytes);
  for (let i = random(8); i > 0; i -= 1) {
    // Mostly near the beginning, where the headers are close together.
    const at = random(random(2) === 0 ? Math.min(300, changed.length) : changed.length);
    changed[at] = random(256);
  }
  return random(4) === 0 ? changed.subarray(0, random(changed.length)) : changed;
}

/** Sends bytes in pieces of the seed's choice, reads or not, and waits until the connection has ended. */
async function play(path: string, bytes: Buffer, random: (below: number) => number): Promise<void> {
  const socket = connect(path);
  socket.on("error", () => {});
  const over = new Promise((resolve) => socket.once("close", resolve));
  const reads = random(5) > 0;
  if (reads) socket.resume();
  for (let at = 0; at < bytes.length && !socket.destroyed; ) {
    const piece = random(3) === 0 ? 1 + random(50) : 1 + random(100_000);
    socket.write(bytes.subarray(at, at + piece));
    at += piece;
    if (random(4) === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  if (random(3) === 0 || !reads) socket.destroy();
  else socket.end();
  await over;
}

describe("NbdServer", () => {
  it("survives mutated and random sessions, and still serves", async () => {
    const path = join(directory, "server.sock");
    const broken: unknown[] = [];
    const limits = { maxPayloadBytes: MiB, maxBytes: 4 * MiB, handshakeTimeoutMs: 2000 };
    await using server = new NbdServer({
      limits,
      onError: (error, { command }) => {
        if (command !== undefined || (error as Error).name !== "ProtocolError") broken.push(error);
      },
    });
    const device = new MemoryDevice({ sizeBytes: 8 * MiB });
    server.add({ name: "disk", device });
    await server.listen({ path });
    const before = process.memoryUsage().rss;
    for (let seed = 1; seed <= seeds; seed += 8) {
      await Promise.all(
        Array.from({ length: 8 }, async (_, index) => {
          const random = randomOf(seed + index);
          const honest = session(random);
          const noise = Buffer.from(Array.from({ length: random(500) }, () => random(256)));
          const kind = random(10);
          const bytes =
            kind === 0
              ? noise
              : kind < 3
                ? Buffer.concat([honest, noise])
                : kind < 9
                  ? mutate(honest, random)
                  : honest;
          await play(path, bytes, random);
        }),
      );
    }
    while (server.clients() > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    assert.deepEqual(broken, [], "the device was asked for what it cannot do, or something threw");
    assert.ok(process.memoryUsage().rss - before < 300 * MiB, "memory has grown");
    await using client = await NbdClient.connect({ uri: `nbd+unix:///disk?socket=${path}` });
    await client.write(0, Buffer.from("well"));
    assert.equal((await client.read(0, 4)).toString(), "well");
  });
});

describe("NbdClient", () => {
  it("ends with an error, and not otherwise, whatever a server sends", async () => {
    let answer = Buffer.alloc(0);
    const path = join(directory, "client.sock");
    const listener = createServer((socket) => {
      socket.on("error", () => {});
      socket.resume();
      socket.end(answer);
    }).listen(path);
    await once(listener, "listening");
    const honest = Buffer.concat([
      encodeGreeting(),
      encodeOptionReply(Option.structuredReply, OptionReply.ack),
      encodeOptionReply(
        Option.setMetaContext,
        OptionReply.metaContext,
        encodeMetaContext(1, "base:allocation"),
      ),
      encodeOptionReply(Option.setMetaContext, OptionReply.ack),
      encodeOptionReply(
        Option.go,
        OptionReply.info,
        encodeInfo({ type: "export", sizeBytes: MiB, flags: 0x7f }),
      ),
      encodeOptionReply(Option.go, OptionReply.ack),
      Buffer.from("668e33ef00010001000000000000000100000010000000000000000061626364656667686868", "hex"),
    ]);
    try {
      for (let seed = 1; seed <= 200; seed += 1) {
        const random = randomOf(seed);
        answer = Buffer.from(mutate(honest, random));
        const uri = `nbd+unix:///disk?socket=${path}`;
        const result = await NbdClient.connect({ uri, timeoutMs: 5000 })
          .then(async (client) => {
            const failed = await client.read(0, 8).then(
              () => ({ code: "NBD_CLOSED" }),
              (error: unknown) => error as { code: string },
            );
            await client.closed;
            return failed;
          })
          .catch((error: unknown) => error as { code: string });
        assert.match(result.code, /^NBD_/, `seed ${seed}: ${String(result)}`);
      }
    } finally {
      listener.close();
    }
  });
});
