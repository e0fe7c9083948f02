import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { stat } from "node:fs/promises";
import { connect } from "node:net";
import type { Readable } from "node:stream";
import { finished } from "node:stream/promises";
import { describe, it } from "node:test";
import { fakeSerial } from "./console-fixture.ts";

function collect(stream: Readable): () => string {
  let text = "";
  stream.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
  });
  return () => text;
}

describe("Console", () => {
  it("shows output to all, with what was printed before to those who ask", async () => {
    await using serial = await fakeSerial();
    const early = collect((await serial.console.attach({ mode: "watch" })).output);
    serial.print("one two ");
    await serial.until(() => early() === "one two ");
    const replayed = collect((await serial.console.attach({ mode: "watch", replayBytes: 4 })).output);
    const fresh = collect((await serial.console.attach({ mode: "write" })).output);
    serial.print("three");
    await serial.until(() => fresh() === "three");
    assert.deepEqual([early(), replayed()], ["one two three", "two three"]);
  });

  it("lets one write, and says how to take over", async () => {
    await using serial = await fakeSerial();
    const watcher = await serial.console.attach({ mode: "watch" });
    const first = await serial.console.attach({ mode: "write" });
    await assert.rejects(serial.console.attach({ mode: "write" }), { code: "CONSOLE_BUSY", hint: /--take/ });
    const reasons: string[] = [];
    first.onEnd((reason) => reasons.push(reason));
    const second = await serial.console.attach({ mode: "take" });
    assert.deepEqual(reasons, ["another console took over the keyboard"]);
    assert.deepEqual([watcher.writable, second.writable], [false, true]);
    watcher.write(Buffer.from("w"));
    first.write(Buffer.from("1"));
    second.write(Buffer.from("2"));
    await serial.until(() => serial.typed() !== "");
    assert.equal(serial.typed(), "2");
    second.close();
    (await serial.console.attach({ mode: "write" })).close();
  });

  it("ends everyone when QEMU ends, says why afterwards, and can be opened again", async () => {
    await using serial = await fakeSerial();
    const attachment = await serial.console.attach({ mode: "write" });
    const shown = collect(attachment.output);
    const ended = new Promise<string>((resolve) => attachment.onEnd(resolve));
    serial.print("last words");
    await serial.until(() => shown() !== "");
    serial.hangUp();
    assert.equal(await ended, "the machine has stopped");
    await finished(attachment.output);
    await assert.rejects(serial.console.attach({ mode: "watch" }), {
      code: "CONSOLE_CLOSED",
      message: /"web".*has stopped/,
    });
    await serial.console.open();
    await serial.console.attach({ mode: "write" });
  });

  it("never waits for a slow watcher, which is told what it missed", async () => {
    await using serial = await fakeSerial();
    const slow = await serial.console.attach({ mode: "watch" });
    const quick = await serial.console.attach({ mode: "watch" });
    let quickBytes = 0;
    quick.output.on("data", (bytes: Buffer) => {
      quickBytes += bytes.length;
    });
    const total = 8 << 20;
    serial.print(Buffer.alloc(total, "x"));
    await serial.until(() => quickBytes === total);
    assert.ok(slow.output.readableLength <= 1 << 20);
    const shown = collect(slow.output);
    await serial.until(() => shown().includes("bytes were left out"));
    const missed = Number(/skep: (\d+) bytes/.exec(shown())?.[1]);
    assert.equal(shown().replace(/[^x]/g, "").length + missed, total);
    serial.print("and on");
    await serial.until(() => shown().endsWith("and on"));
  });

  it("holds a bounded amount of input for a guest that does not read", async () => {
    await using serial = await fakeSerial();
    serial.listen(false);
    const attachment = await serial.console.attach({ mode: "write" });
    for (let i = 0; i < 64; i += 1) attachment.write(Buffer.alloc(64 << 10, "k"));
    serial.listen(true);
    // What is typed while there is no room yet is lost, too.
    await serial.until(() => {
      attachment.write(Buffer.from("e"));
      return serial.typed().endsWith("e");
    });
    assert.ok(serial.typed().length < 3 << 20);
  });
});

describe("console.sock", () => {
  it("belongs to its user alone", async () => {
    await using serial = await fakeSerial();
    assert.equal((await stat(serial.scriptSocket)).mode & 0o777, 0o600);
  });

  it("serves nc beside a human who holds the keyboard", async () => {
    await using serial = await fakeSerial();
    const human = await serial.console.attach({ mode: "write" });
    const script = spawn("nc", ["-U", serial.scriptSocket], { stdio: "pipe" });
    try {
      const shown = collect(script.stdout);
      script.stdin.end("uptime\n"); // closes its half, and still sees the answer
      await serial.until(() => serial.typed() === "uptime\n");
      human.write(Buffer.from("h"));
      await serial.until(() => serial.typed() === "uptime\nh");
      serial.print("up 3 days");
      await serial.until(() => shown() === "up 3 days");
    } finally {
      script.kill("SIGKILL");
    }
  });

  it("holds a script back, rather than losing what it writes, while the guest is slow", async () => {
    await using serial = await fakeSerial();
    serial.listen(false);
    const socket = connect(serial.scriptSocket);
    const bytes = Buffer.alloc(4 << 20, "0123456789");
    socket.end(bytes);
    await serial.until(() => socket.bytesWritten > 0);
    serial.listen(true);
    await serial.until(() => serial.typed().length >= bytes.length);
    assert.equal(serial.typed(), bytes.toString());
    socket.destroy();
  });

  it("takes a new script even when many have left without a word", async () => {
    await using serial = await fakeSerial();
    for (let i = 0; i < 80; i += 1) {
      const socket = connect(serial.scriptSocket);
      socket.end("x");
      await serial.until(() => serial.typed().length === i + 1);
      socket.destroy();
    }
    const last = connect(serial.scriptSocket);
    const shown = collect(last);
    last.write("y");
    await serial.until(() => serial.typed().endsWith("y"));
    serial.print("there");
    await serial.until(() => shown() === "there");
    last.destroy();
  });
});
