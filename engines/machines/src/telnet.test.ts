import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { fakeSerial } from "./console-fixture.ts";
import { TelnetServer } from "./telnet.ts";
import { TelnetCodec } from "./telnet-codec.ts";

const [IAC, SB, SE, WILL, WONT, DO, DONT, AYT] = [255, 250, 240, 251, 252, 253, 254, 246];

function decode(codec: TelnetCodec, ...bytes: number[]): { data: number[]; answer: number[] } {
  const { data, answer } = codec.decode(Uint8Array.from(bytes));
  return { data: [...data], answer: [...answer] };
}

describe("TelnetCodec", () => {
  it("offers echo, no go-ahead and binary, and asks for the latter two", () => {
    assert.deepEqual(
      [...new TelnetCodec().greeting()],
      [IAC, WILL, 1, IAC, WILL, 3, IAC, WILL, 0, IAC, DO, 3, IAC, DO, 0],
    );
  });

  it("does not answer consent, refuses what it does not know, and never answers twice", () => {
    const codec = new TelnetCodec();
    assert.deepEqual(
      decode(codec, IAC, DO, 1, IAC, DO, 3, IAC, WILL, 3, IAC, WILL, 0, IAC, DO, 0).answer,
      [],
    );
    assert.deepEqual(decode(codec, IAC, WILL, 31, IAC, DO, 24).answer, [IAC, DONT, 31, IAC, WONT, 24]);
    assert.deepEqual(decode(codec, IAC, DONT, 1).answer, [IAC, WONT, 1]);
    assert.deepEqual(decode(codec, IAC, DONT, 1, IAC, WONT, 31, IAC, DONT, 24).answer, []);
    assert.deepEqual(decode(codec, IAC, DO, 1, IAC, DO, 1).answer, [IAC, WILL, 1]);
  });

  it("gives the return key as one CR, in binary mode what was sent", () => {
    const codec = new TelnetCodec();
    assert.deepEqual(decode(codec, 65, 13, 10, 66, 13, 0, 67, 13, 68).data, [65, 13, 66, 13, 67, 13, 68]);
    decode(codec, IAC, WILL, 0);
    assert.deepEqual(decode(codec, 13, 10, 13, 0).data, [13, 10, 13, 0]);
  });

  it("takes commands apart wherever they are split, and drops subnegotiations of any length", () => {
    const stream = [
      65,
      IAC,
      IAC,
      IAC,
      SB,
      24,
      ...Array(5000).fill(66),
      IAC,
      IAC,
      9,
      IAC,
      SE,
      67,
      IAC,
      DO,
      99,
      68,
      IAC,
      241,
      69,
    ];
    const whole = decode(new TelnetCodec(), ...stream);
    assert.deepEqual(whole, { data: [65, 255, 67, 68, 69], answer: [IAC, WONT, 99] });
    const codec = new TelnetCodec();
    const pieces = stream.map((byte) => decode(codec, byte));
    assert.deepEqual(
      pieces.flatMap((piece) => piece.data),
      whole.data,
    );
    assert.deepEqual(
      pieces.flatMap((piece) => piece.answer),
      whole.answer,
    );
  });

  it("doubles IAC in output, and marks a lone return outside binary mode", () => {
    const codec = new TelnetCodec();
    assert.deepEqual([...codec.encode(Uint8Array.from([65, 255, 13]))], [65, 255, 255, 13]);
    assert.deepEqual([...codec.encode(Uint8Array.from([10, 13, 66]))], [10, 13, 0, 66]);
    decode(codec, IAC, DO, 0);
    assert.deepEqual([...codec.encode(Uint8Array.from([13, 66]))], [13, 66]);
  });
});

describe("TelnetServer", () => {
  it("serves the real telnet client", async () => {
    await using serial = await fakeSerial();
    await using server = await TelnetServer.listen(serial.console, 0);
    const client = spawn("telnet", ["127.0.0.1", String(server.port)], { stdio: "pipe" });
    try {
      let shown = "";
      client.stdout.on("data", (text) => {
        shown += text;
      });
      await serial.until(() => shown.includes("Escape character"));
      serial.print("login: \xff\r\n");
      await serial.until(() => shown.includes("login: "));
      client.stdin.write("root\n");
      await serial.until(() => /root\r?\n?/.test(serial.typed()));
      serial.print("# ");
      await serial.until(() => shown.includes("# "));
    } finally {
      client.kill("SIGKILL");
    }
  });

  it("survives clients that flood it with requests and read nothing", async () => {
    await using serial = await fakeSerial();
    await using server = await TelnetServer.listen(serial.console, 0);
    const socket = connect({ host: "127.0.0.1", port: server.port });
    socket.on("error", () => {});
    socket.pause();
    const flood = Buffer.alloc(3 << 20, Buffer.from([IAC, AYT]));
    let closed = false;
    socket.on("close", () => {
      closed = true;
    });
    socket.write(flood);
    socket.write(flood, () => socket.resume());
    await serial.until(() => closed);
    assert.equal(serial.typed(), "");
  });

  it("says which port is taken", async () => {
    await using serial = await fakeSerial();
    await using server = await TelnetServer.listen(serial.console, 0);
    await assert.rejects(TelnetServer.listen(serial.console, server.port), {
      code: "TELNET_PORT",
      message: new RegExp(`${server.port}: another program`),
    });
  });
});
