import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import type { ApiClient } from "@skep/api";
import { type TestControl, testControl } from "./test-control.ts";

type Socket = Awaited<ReturnType<ApiClient["socket"]>>;

/** Collects what the server sends; `until` waits for a condition on it. */
function watch(socket: Socket) {
  const texts: Record<string, unknown>[] = [];
  const channels: Record<number, Buffer> = {};
  let bytes = Buffer.alloc(0);
  let wake = () => {};
  let closed = socket.readyState >= socket.CLOSING;
  socket.on("message", (data, isBinary) => {
    const piece = data as Buffer;
    if (isBinary) {
      bytes = Buffer.concat([bytes, piece]);
      const channel = piece[0] ?? 0;
      channels[channel] = Buffer.concat([channels[channel] ?? Buffer.alloc(0), piece.subarray(1)]);
    } else {
      texts.push(JSON.parse(String(piece)) as Record<string, unknown>);
    }
    wake();
  });
  socket.on("close", () => {
    closed = true;
    wake();
  });
  const until = async (condition: () => boolean) => {
    while (!condition()) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { texts, channels, bytes: () => bytes, until, closed: () => closed };
}

async function withMachine(): Promise<TestControl> {
  const t = await testControl();
  await t.client.job("createMachine", { body: { name: "web" } });
  return t;
}

test("the console echoes what its writer types, and says at last why it ended", async () => {
  await using t = await withMachine();
  const socket = await t.client.socket("machineConsole", { path: { name: "web" }, query: { mode: "write" } });
  const seen = watch(socket);
  socket.send(Buffer.from("root\n"));
  await seen.until(() => String(seen.bytes()).includes("root"));
  assert.equal(String(seen.bytes()), "login: root\n");
  socket.send(Buffer.from("halt\n"));
  await seen.until(seen.closed);
  assert.deepEqual(seen.texts, [{ writable: true }, { end: "the machine has stopped" }]);
});

test("a watcher of the console cannot type", async () => {
  await using t = await withMachine();
  const socket = await t.client.socket("/v1/machines/web/console");
  const seen = watch(socket);
  socket.send(Buffer.from("halt\n"));
  await seen.until(() => String(seen.bytes()) === "login: ");
  socket.ping();
  await once(socket, "pong");
  assert.deepEqual([seen.texts, String(seen.bytes())], [[{ writable: false }], "login: "]);
  socket.close();
});

test("a socket to a machine that is not there is refused with the reason", async () => {
  await using t = await testControl();
  for (const id of ["machineConsole", "machineExec"] as const) {
    await assert.rejects(t.client.socket(id, { path: { name: "web" } }), {
      code: "MACHINE_NOT_FOUND",
      status: 404,
    });
  }
  await assert.rejects(t.client.socket("/v1/nowhere"), { code: "ROUTE_NOT_FOUND" });
  await assert.rejects(t.client.socket("/v1/machines/web/console?mode=odd"), { code: "REQUEST_INVALID" });
});

async function exec(t: TestControl, first: string | Buffer) {
  const socket = await t.client.socket("machineExec", { path: { name: "web" } });
  const seen = watch(socket);
  socket.send(first);
  return { socket, seen };
}

const asked = (...command: string[]) => JSON.stringify({ command, stdinTaken: true });

test("a command's status and streams come back apart", async () => {
  await using t = await withMachine();
  const { seen } = await exec(t, asked("exit", "7"));
  await seen.until(seen.closed);
  assert.deepEqual(seen.texts, [{ started: { transport: "agent" } }, { exit: 7 }]);
  assert.equal(String(seen.channels[2]), "bye");
});

test("input goes through unharmed, is acknowledged, and its end ends the command", async () => {
  await using t = await withMachine();
  const { socket, seen } = await exec(t, asked("cat"));
  const piece = Buffer.alloc(65_537, "abc");
  piece[0] = 0;
  for (let count = 0; count < 100; count += 1) socket.send(piece);
  socket.send('{"stdinEnd":true}');
  await seen.until(seen.closed);
  assert.equal(seen.channels[1]?.length, 100 * 65_536);
  assert.ok(seen.texts.some(({ stdinTaken }) => stdinTaken === 100 * 65_536));
  assert.deepEqual(seen.texts.at(-1), { exit: 0 });
});

test("signals and sizes reach the command", async () => {
  await using t = await withMachine();
  const { socket, seen } = await exec(t, asked("wait"));
  socket.send('{"resize":{"columns":80,"rows":24}}');
  socket.send('{"signal":"INT"}');
  await seen.until(seen.closed);
  assert.deepEqual(seen.texts.at(-1), { exit: 130 });
  assert.deepEqual(t.machines.execEvents.slice(0, 2), ["resize 80x24", "signal INT"]);
});

test("a client that does not read makes an endless command wait, and its leaving ends it", async () => {
  await using t = await withMachine();
  const socket = await t.client.socket("machineExec", { path: { name: "web" } });
  socket.send(asked("yes"));
  await once(socket, "message");
  socket.pause();
  // Another command runs to its end meanwhile: the server is not busy with the first.
  const other = await exec(t, asked("exit", "0"));
  await other.seen.until(other.seen.closed);
  t.machines.execEvents.length = 0;
  socket.terminate();
  while (t.machines.execEvents.length === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(t.machines.execEvents, ["closed after little"]);
});

test("frames that are no frames end the session with the reason", async () => {
  await using t = await withMachine();
  const first: [string | Buffer, RegExp][] = [
    ["{", /not JSON/],
    ["[]", /must be object/],
    ['{"command":["a"],"x":1}', /unknown field "x"/],
    ['{"command":"a"}', /"command" must be array/],
    ['{"command":[],"tty":{"columns":0,"rows":1,"term":"x"}}', /"tty\.columns"/],
    [Buffer.from("a"), /must be a text frame/],
  ];
  for (const [frame, expected] of first) {
    const { seen } = await exec(t, frame);
    await seen.until(seen.closed);
    const error = seen.texts[0]?.error as { code: string; message: string };
    assert.equal(error.code, "FRAME_INVALID");
    assert.match(error.message, expected);
  }
  for (const later of ['{"odd":1}', '{"signal":"rm -rf"}', Buffer.from([9, 1]), "x"]) {
    const { socket, seen } = await exec(t, asked("wait"));
    await seen.until(() => seen.texts.length > 0);
    socket.send(later);
    await seen.until(seen.closed);
    assert.equal(
      (seen.texts.at(-1)?.error as { code?: string } | undefined)?.code,
      "FRAME_INVALID",
      String(later),
    );
  }
});

test("a tunnel carries bytes both ways", async () => {
  await using t = await withMachine();
  const socket = await t.client.socket("machineTunnel", { path: { name: "web" }, query: { port: 22 } });
  const seen = watch(socket);
  socket.send(Buffer.alloc(300_000, 7));
  await seen.until(() => seen.bytes().length === 300_000);
  socket.close();
});
