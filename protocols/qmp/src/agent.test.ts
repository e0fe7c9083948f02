import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { access, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestAgent } from "./agent.ts";
import { delimiter, encodeLine, type JsonObject, LineDecoder } from "./codec.ts";
import { QmpError } from "./errors.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp("/tmp/skep-agent-");
});
after(() => rm(directory, { recursive: true, force: true }));

interface FaultyAgent extends AsyncDisposable {
  path: string;
  connections(): number;
}

/** A server that synchronises like the real agent, and answers the rest as the test says. */
async function faultyAgent(
  answer: (message: JsonObject, socket: Socket, connection: number) => void,
  beforeSync: Buffer = Buffer.alloc(0),
): Promise<FaultyAgent> {
  const path = join(directory, `${Math.random().toString(36).slice(2)}.sock`);
  let count = 0;
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    count += 1;
    const connection = count;
    sockets.add(socket);
    socket.on("error", () => {});
    const decoder = new LineDecoder({ maxLineBytes: 1 << 20 });
    decoder.skipToDelimiter();
    socket.on("data", (bytes: Buffer) => {
      decoder.push(bytes, (message) => {
        if (message.execute !== "guest-sync-delimited") return answer(message, socket, connection);
        const { id } = message.arguments as { id: number };
        socket.write(Buffer.concat([beforeSync, Buffer.from([delimiter]), encodeLine({ return: id })]));
      });
    });
  });
  server.listen(path);
  await once(server, "listening");
  return {
    path,
    connections: () => count,
    async [Symbol.asyncDispose]() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

describe("GuestAgent and faults", () => {
  it("skips late answers, halves and garbage from before it connected", async () => {
    const noise = Buffer.concat([
      Buffer.from('lf"}\n{"return": 99}\n%%%\n'),
      Buffer.from([delimiter]),
      Buffer.from('{"return": 1}\n{"ret'),
    ]);
    await using server = await faultyAgent((_, socket) => socket.write('{"return": {}}\n'), noise);
    await using agent = new GuestAgent(server.path);
    await agent.ping();
    await agent.ping();
    assert.equal(server.connections(), 1);
  });

  it("is not wedged by a call without an answer, and takes no late answer for its own", async () => {
    await using server = await faultyAgent((message, socket, connection) => {
      if (connection > 1) socket.write(encodeLine({ return: message.execute }));
    });
    await using agent = new GuestAgent(server.path);
    await assert.rejects(agent.call("guest-slow", {}, { timeoutMs: 50 }), {
      code: "AGENT_TIMEOUT",
      message: /guest-slow/,
    });
    assert.equal(await agent.call("guest-quick"), "guest-quick");
    assert.equal(server.connections(), 2);
  });

  it("asks one thing at a time, in order", async () => {
    let open = 0;
    await using server = await faultyAgent((message, socket) => {
      open += 1;
      assert.equal(open, 1);
      setImmediate(() => {
        open -= 1;
        socket.write(encodeLine({ return: message.execute }));
      });
    });
    await using agent = new GuestAgent(server.path);
    const names = Array.from({ length: 50 }, (_, i) => `guest-${i}`);
    assert.deepEqual(await Promise.all(names.map((name) => agent.call(name))), names);
  });

  it("gives up at once when aborted, waiting or running, and the calls behind it go on", async () => {
    await using server = await faultyAgent((message, socket) => {
      if (message.execute !== "guest-slow") socket.write(encodeLine({ return: message.execute }));
    });
    await using agent = new GuestAgent(server.path);
    const first = new AbortController();
    const second = new AbortController();
    const running = agent.call("guest-slow", {}, { signal: first.signal });
    const waiting = agent.call("guest-slow", {}, { signal: second.signal });
    const behind = agent.call("guest-quick");
    second.abort();
    await assert.rejects(waiting, { code: "CANCELLED" });
    first.abort();
    await assert.rejects(running, { code: "CANCELLED" });
    assert.equal(await behind, "guest-quick");
  });

  it("keeps a time-out also behind a call that takes longer, and leaves that one alone", async () => {
    let release = () => {};
    await using server = await faultyAgent((message, socket) => {
      release = () => socket.write(encodeLine({ return: message.execute }));
    });
    await using agent = new GuestAgent(server.path);
    const slow = agent.call("guest-slow");
    await assert.rejects(agent.ping({ timeoutMs: 50 }), { code: "AGENT_TIMEOUT", message: /guest-ping/ });
    release();
    assert.equal(await slow, "guest-slow");
    assert.equal(server.connections(), 1);
  });

  it("reconnects after garbage, an endless line, and a closed connection", async () => {
    await using server = await faultyAgent((message, socket, connection) => {
      if (connection === 1) socket.write("%%%\n");
      else if (connection === 2) socket.destroy();
      else if (connection === 3) socket.write(Buffer.alloc(9 << 20, "x"));
      else socket.write(encodeLine({ return: message.execute }));
    });
    await using agent = new GuestAgent(server.path);
    for (let i = 0; i < 3; i += 1) await assert.rejects(agent.call("guest-x"), { code: "AGENT_CLOSED" });
    assert.equal(await agent.call("guest-x"), "guest-x");
  });

  it("takes silence after a shutdown for consent, and a refusal for a refusal", async () => {
    await using silent = await faultyAgent(() => {});
    await using agent = new GuestAgent(silent.path);
    await agent.shutdown("powerdown", { timeoutMs: 50 });
    await using refusing = await faultyAgent((_, socket) => {
      socket.write(encodeLine({ error: { class: "GenericError", desc: "frozen" } }));
    });
    await using other = new GuestAgent(refusing.path);
    await assert.rejects(other.shutdown(), { code: "AGENT_ERROR", message: /frozen/ });
  });

  it("says that nobody is there", async () => {
    await using agent = new GuestAgent(join(directory, "none.sock"));
    await assert.rejects(agent.ping(), { code: "AGENT_UNREACHABLE" });
  });
});

const realAgent = "/usr/sbin/qemu-ga";

describe("GuestAgent with the real agent", {
  skip: existsSync(realAgent) ? false : "qemu-guest-agent is not installed",
}, () => {
  let agent: GuestAgent;
  let stop: () => void = () => {};
  before(async () => {
    const path = join(directory, "ga.sock");
    const program = spawn(
      realAgent,
      ["-m", "unix-listen", "-p", path, "-t", directory, "-f", join(directory, "ga.pid")],
      {
        stdio: "ignore",
      },
    );
    stop = () => program.kill("SIGKILL");
    for (let found = false; !found; ) {
      assert.equal(program.exitCode, null, "qemu-ga ended");
      found = await access(path).then(
        () => true,
        () => sleep(20, false),
      );
    }
    agent = new GuestAgent(path);
  });
  after(() => {
    agent?.disconnect();
    stop();
  });

  it("answers, also after the connection was dropped", async () => {
    await agent.ping();
    agent.disconnect();
    const { commands } = await agent.info();
    assert.ok(commands.has("guest-exec"));
    assert.equal(await agent.hostName(), hostname());
    assert.ok((await agent.osInfo()).id);
    assert.ok(
      (await agent.interfaces()).some((one) => one.addresses.some(({ address }) => address === "127.0.0.1")),
    );
  });

  it("runs programs", async () => {
    const pid = await agent.exec({
      path: "/bin/sh",
      args: ["-c", 'cat; echo "$WORD" >&2; exit 7'],
      env: { WORD: "two words" },
      input: Buffer.from("in\0put"),
      capture: true,
    });
    let status = await agent.execStatus(pid);
    while (!status.exited) status = await sleep(20).then(() => agent.execStatus(pid));
    assert.deepEqual(
      [status.exitCode, status.stdout.toString(), status.stderr.toString()],
      [7, "in\0put", "two words\n"],
    );
  });

  it("writes and reads files of several pieces", async () => {
    const path = join(directory, "file");
    const bytes = Buffer.alloc(700_000, "0123456789\n");
    const writer = await agent.fileOpen(path, "w");
    await agent.fileWrite(writer, bytes);
    await agent.fileFlush(writer);
    await agent.fileClose(writer);
    assert.deepEqual(await readFile(path), bytes);
    const reader = await agent.fileOpen(path, "r");
    await agent.fileSeek(reader, 11);
    const read: Buffer[] = [];
    for (let eof = false; !eof; ) {
      const piece = await agent.fileRead(reader);
      read.push(piece.bytes);
      eof = piece.eof;
    }
    await agent.fileClose(reader);
    assert.deepEqual(Buffer.concat(read), bytes.subarray(11));
  });

  it("gives the agent's sentence of a refusal, and goes on", async () => {
    await assert.rejects(agent.fileOpen("/does/not/exist", "r"), (error) => {
      assert.ok(error instanceof QmpError);
      assert.equal(error.code, "AGENT_ERROR");
      assert.match(error.message, /guest-file-open.*No such file/);
      return true;
    });
    await agent.ping();
  });
});
