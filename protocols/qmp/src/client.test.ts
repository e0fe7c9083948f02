import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { access, mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { QmpClient } from "./client.ts";
import { QmpError } from "./errors.ts";

let directory: string;
before(async () => {
  directory = await mkdtemp("/tmp/skep-qmp-");
});
after(() => rm(directory, { recursive: true, force: true }));

async function startQemu(name: string): Promise<{ path: string; qemu: ChildProcess }> {
  const path = join(directory, `${name}.sock`);
  const qemu = spawn(
    "qemu-system-x86_64",
    [
      "-M",
      "q35",
      "-nodefaults",
      "-S",
      "-display",
      "none",
      "-m",
      "16",
      "-qmp",
      `unix:${path},server=on,wait=off`,
    ],
    { stdio: "ignore" },
  );
  while (true) {
    try {
      await access(path);
      return { path, qemu };
    } catch {
      assert.equal(qemu.exitCode, null, "QEMU ended");
      await sleep(20);
    }
  }
}

describe("QmpClient with a real QEMU", () => {
  let path: string;
  let qemu: ChildProcess;
  before(async () => {
    ({ path, qemu } = await startQemu("shared"));
  });
  after(() => qemu.kill("SIGKILL"));

  it("negotiates, executes typed commands and frees the socket for the next client", async () => {
    for (let i = 0; i < 3; i += 1) {
      await using client = await QmpClient.connect(path);
      assert.ok(client.greeting.version.qemu.major >= 7);
      const status = await client.execute("query-status");
      assert.deepEqual([status.running, status.status], [false, "prelaunch"]);
    }
  });

  it("answers many commands in flight, each with its own answer", async () => {
    await using client = await QmpClient.connect(path);
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, i) => client.hmp(`print ${i}`).then((text) => Number(text))),
    );
    assert.deepEqual(
      answers,
      Array.from({ length: 200 }, (_, i) => i),
    );
  });

  it("gives QEMU's class and sentence of a refusal", async () => {
    await using client = await QmpClient.connect(path);
    await assert.rejects(client.execute("device_del", { id: "nothing" }), (error) => {
      assert.ok(error instanceof QmpError);
      assert.deepEqual(
        [error.code, error.class, error.command],
        ["QMP_ERROR", "DeviceNotFound", "device_del"],
      );
      assert.match(error.message, /device_del.*nothing/);
      return true;
    });
    await assert.rejects(client.execute("no-such-command"), { class: "CommandNotFound" });
  });

  it("delivers events", async () => {
    await using client = await QmpClient.connect(path);
    const resumed = client.nextEvent("RESUME", { timeoutMs: 20_000 });
    await client.execute("cont");
    const event = await resumed;
    assert.deepEqual(event.data, {});
    assert.ok(event.timestamp.seconds > 1e9);
    const stopped = client.nextEvent("STOP", { timeoutMs: 20_000 });
    await client.execute("stop");
    await stopped;
  });

  it("says that another client may hold the socket", async () => {
    await using _holder = await QmpClient.connect(path);
    await assert.rejects(QmpClient.connect(path, { timeoutMs: 100 }), {
      code: "QMP_UNREACHABLE",
      message: /another client/,
    });
  });

  it("can be aborted while connecting and while waiting, and goes on after an aborted command", async () => {
    await using client = await QmpClient.connect(path);
    await assert.rejects(QmpClient.connect(path, { signal: AbortSignal.timeout(50) }), { code: "CANCELLED" });
    await assert.rejects(client.execute("query-status", {}, { signal: AbortSignal.abort() }), {
      code: "CANCELLED",
    });
    const abort = new AbortController();
    const aborted = client.execute("query-commands", {}, { signal: abort.signal });
    abort.abort();
    await assert.rejects(aborted, { code: "CANCELLED" });
    assert.equal((await client.execute("query-status")).running, false);
  });
});

describe("QmpClient and the end of its QEMU", () => {
  it("fails pending calls and tells why it closed when QEMU is killed", async () => {
    const { path, qemu } = await startQemu("killed");
    await using client = await QmpClient.connect(path);
    const waiting = client.nextEvent("RESUME");
    qemu.kill("SIGSTOP");
    const pending = client.execute("query-status");
    qemu.kill("SIGKILL");
    await assert.rejects(pending, { code: "QMP_CLOSED" });
    await assert.rejects(waiting, { code: "QMP_CLOSED" });
    assert.equal((await client.closed).code, "QMP_CLOSED");
    await assert.rejects(client.execute("query-status"), { code: "QMP_CLOSED" });
  });

  it("answers quit and then closes", async () => {
    const { path, qemu } = await startQemu("quit");
    const exited = once(qemu, "exit");
    await using client = await QmpClient.connect(path);
    await client.execute("quit");
    await client.closed;
    assert.deepEqual(await exited, [0, null]);
  });

  it("times out at a QEMU that hangs, and takes no late answer for another's", async () => {
    const { path, qemu } = await startQemu("hangs");
    try {
      await using client = await QmpClient.connect(path);
      qemu.kill("SIGSTOP");
      await assert.rejects(client.execute("query-name", {}, { timeoutMs: 50 }), {
        code: "QMP_TIMEOUT",
        message: /query-name/,
      });
      qemu.kill("SIGCONT");
      assert.equal((await client.execute("query-status")).status, "prelaunch");
    } finally {
      qemu.kill("SIGKILL");
    }
  });

  it("says that nobody is there", async () => {
    await assert.rejects(QmpClient.connect(join(directory, "none.sock")), { code: "QMP_UNREACHABLE" });
  });
});

describe("QmpClient and a server that is not QEMU", () => {
  const greeting =
    '{"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}\n';

  async function connectTo(name: string, serve: (socket: Socket) => void): Promise<unknown> {
    const path = join(directory, `${name}.sock`);
    const server = createServer((socket) => {
      socket.on("error", () => {});
      serve(socket);
    });
    server.listen(path);
    await once(server, "listening");
    try {
      await using client = await QmpClient.connect(path, { timeoutMs: 2000 });
      return await client.execute("query-status", {}, { timeoutMs: 2000 });
    } finally {
      server.close();
    }
  }

  it("refuses a greeting that is none, garbage, or cut off", async () => {
    await assert.rejects(
      connectTo("wrong", (socket) => socket.write('{"return": {}}\n')),
      { code: "QMP_PROTOCOL" },
    );
    await assert.rejects(
      connectTo("ssh", (socket) => socket.write("SSH-2.0-x\r\n")),
      { code: "QMP_PROTOCOL" },
    );
    await assert.rejects(
      connectTo("cut", (socket) => socket.end('{"QM')),
      { code: "QMP_UNREACHABLE" },
    );
    await assert.rejects(
      connectTo("odd", (socket) => socket.write('{"QMP": null}\n')),
      { code: "QMP_PROTOCOL" },
    );
  });

  it("closes on garbage in the middle, naming it to whoever waits", async () => {
    await assert.rejects(
      connectTo("garbage", (socket) => {
        socket.write(greeting);
        socket.once("data", () => {
          socket.write('{"return": {}, "id": 1}\n');
          socket.once("data", () => socket.write("%%%\n"));
        });
      }),
      { code: "QMP_PROTOCOL" },
    );
  });

  it("survives a line without end", async () => {
    await assert.rejects(
      connectTo("endless", (socket) => {
        const more = () => {
          while (socket.writable && socket.write(Buffer.alloc(1 << 20, "x")));
        };
        socket.on("drain", more);
        more();
      }),
      { code: "QMP_PROTOCOL", message: /longer/ },
    );
  });
});
