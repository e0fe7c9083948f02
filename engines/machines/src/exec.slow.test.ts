import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ImageStore } from "@skep/images";
import { GuestAgent, QmpClient } from "@skep/qmp";
import { agentExec } from "./agent-exec.ts";
import { Console } from "./console.ts";
import { ConsoleLog } from "./console-log.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

const home = process.env.SKEP_TEST_HOME;
const image = home === undefined ? undefined : new ImageStore({ home }).find("tiny");

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  let all = "";
  for await (const piece of stream) all += piece;
  return all;
}

describe("a tiny guest", {
  skip: image?.kernel ? false : "SKEP_TEST_HOME has no tiny image",
  timeout: 300_000,
}, () => {
  let directory: string;
  let qemu: ChildProcess | undefined;
  let qmp: QmpClient;
  let agent: GuestAgent;
  let console_: Console;
  let log: ConsoleLog;
  const path = (name: string) => join(directory, name);

  before(async () => {
    directory = await mkdtemp("/tmp/skep-tiny-");
    const socket = (name: string) => `path=${path(name)},server=on,wait=off`;
    qemu = spawn(
      "qemu-system-x86_64",
      [
        ...["-M", "q35", "-accel", "tcg", "-cpu", "max", "-m", "256", "-nodefaults", "-display", "none"],
        ...["-kernel", String(image?.kernel), "-initrd", String(image?.initramfs)],
        ...["-append", String(image?.kernelArguments), "-qmp", `unix:${path("qmp")},server=on,wait=off`],
        ...["-chardev", `socket,id=console,${socket("serial")},logfile=${path("console.log")},logappend=on`],
        ...["-serial", "chardev:console", "-device", "virtio-serial-pci"],
        ...["-chardev", `socket,id=agent,${socket("agent")}`],
        ...["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"],
      ],
      { stdio: "ignore" },
    );
    while (!["qmp", "serial", "agent"].every((name) => existsSync(path(name)))) {
      assert.equal(qemu.exitCode, null, "QEMU ended");
      await sleep(20);
    }
    qmp = await QmpClient.connect(path("qmp"), { timeoutMs: 60_000 });
    agent = new GuestAgent(path("agent"));
    log = new ConsoleLog(path("console.log"));
    console_ = new Console({ name: "tiny", serialSocket: path("serial"), scriptSocket: path("script"), log });
    await console_.open();
    for (let answered = false; !answered; ) {
      answered = await agent.ping({ timeoutMs: 1000 }).then(
        () => true,
        () => false,
      );
    }
  });
  after(async () => {
    qemu?.kill("SIGKILL");
    agent?.disconnect();
    await console_?.close("the test has ended");
    await qmp?.close();
    await rm(directory, { recursive: true, force: true });
  });

  const start = (request: ExecRequest): Promise<ExecSession> => agentExec(agent, "tiny", request);

  async function finish(request: ExecRequest, input?: string | Buffer) {
    const session = await start(request);
    session.stdin.end(input);
    return await Promise.all([text(session.stdout), text(session.stderr), session.exit]);
  }

  it("runs commands with nothing but busybox and the agent, and keeps nothing of them", async () => {
    const words = ["it's", "", "a b", "$HOME"];
    assert.deepEqual(await finish({ command: ["printf", "[%s]", ...words] }), [
      "[it's][][a b][$HOME]",
      "",
      0,
    ]);
    assert.deepEqual(await finish({ command: ["sh", "-c", "echo out; echo err >&2; exit 7"] }), [
      "out\n",
      "err\n",
      7,
    ]);
    assert.deepEqual(await finish({ command: ["wc", "-c"] }, Buffer.alloc(300_000)), ["300000\n", "", 0]);
    assert.deepEqual(await finish({ command: [] }, "echo $((6 * 7)); exit 3\n"), ["42\n", "", 3]);
    for (let left = "?"; left !== ""; ) {
      // Its own directory is there while it looks.
      [left] = await finish({
        command: ["sh", "-c", "ls -d /tmp/skep-exec-* /run/skep-exec-* 2>/dev/null | sed 1d"],
      });
    }
  });

  it("signals and ends commands", async () => {
    for (const end of [
      (session: ExecSession) => session.signal("INT"),
      (session: ExecSession) => session.close(),
    ]) {
      const session = await start({ command: ["sh", "-c", "echo up; sleep 1000; sleep 1000"] });
      session.stderr.resume();
      let shown = "";
      session.stdout.on("data", (bytes) => {
        shown += bytes;
      });
      while (shown !== "up\n") await sleep(20);
      end(session);
      assert.ok((await session.exit) > 128);
    }
    assert.equal((await finish({ command: ["sh", "-c", "ps | grep -c '[s]leep 1000'"] }))[0], "0\n");
  });

  it("answers again after it stood still, without late answers in between", async () => {
    await qmp.execute("stop");
    for (let i = 0; i < 3; i += 1) {
      await assert.rejects(agent.hostName({ timeoutMs: 100 }), { code: "AGENT_TIMEOUT" });
    }
    await qmp.execute("cont");
    assert.ok((await agent.info({ timeoutMs: 30_000 })).commands.has("guest-exec"));
  });

  it("shows its console, and logs it", async () => {
    const console = await console_.attach({ mode: "write" });
    let shown = "";
    console.output.on("data", (bytes) => {
      shown += bytes;
    });
    const sinceMs = Date.now();
    console.write(Buffer.from("echo console-$((40+2))\r"));
    while (!shown.includes("console-42")) await sleep(20);
    const logged = async () => (await text(log.read({ sinceMs }))).includes("console-42");
    while (!(await logged())) await sleep(20);
    console.close();
  });

  it("powers down through the agent, which ends its console with the reason", async () => {
    const console = await console_.attach({ mode: "watch" });
    console.output.resume();
    const ended = new Promise<string>((resolve) => console.onEnd(resolve));
    await agent.shutdown();
    await qmp.closed;
    assert.equal(await ended, "the machine has stopped");
  });
});
