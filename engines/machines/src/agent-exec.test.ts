import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { rm } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { agentExec } from "./agent-exec.ts";
import { noAgent, type TestAgent, testAgent } from "./agent-fixture.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

const leftovers = () =>
  ["/run", "/tmp"].flatMap((parent) =>
    readdirSync(parent)
      .filter((name) => name.startsWith("skep-exec-"))
      .map((name) => `${parent}/${name}`),
  );

describe("exec over the guest agent", { skip: noAgent }, () => {
  let guest: TestAgent;
  const before_ = new Set(leftovers());
  before(async () => {
    guest = await testAgent();
  });
  after(async () => {
    try {
      while (leftovers().some((one) => !before_.has(one))) await sleep(20); // each command cleans up after itself
    } finally {
      await guest[Symbol.asyncDispose]();
    }
  });

  const start = (request: ExecRequest): Promise<ExecSession> => agentExec(guest.agent, "tiny", request);

  async function finish(request: ExecRequest, input?: string | Buffer) {
    const session = await start(request);
    session.stdin.end(input);
    const [stdout, stderr, status] = await Promise.all([
      text(session.stdout),
      text(session.stderr),
      session.exit,
    ]);
    return { stdout, stderr, status };
  }

  it("gives the exit status and keeps stdout and stderr apart", async () => {
    assert.deepEqual(await finish({ command: ["sh", "-c", "echo out; echo err >&2; exit 7"] }), {
      stdout: "out\n",
      stderr: "err\n",
      status: 7,
    });
    assert.equal((await finish({ command: ["no-such-command"] })).status, 127);
    assert.equal((await finish({ command: ["sh", "-c", "kill -TERM $$"] })).status, 143);
  });

  it("passes words and variables as they are", async () => {
    const words = ["a b", "", "it's", '"$HOME"', "`id`", "*", "-n", "ü€", "new\nline", "\\", "!x"];
    const { stdout } = await finish({ command: ["printf", "[%s]", ...words] });
    assert.equal(stdout, words.map((word) => `[${word}]`).join(""));
    const env = { WORD: "two 'words' $HOME\n" };
    assert.equal((await finish({ command: ["printenv", "WORD"], env })).stdout, `${env.WORD}\n`);
  });

  it("passes input and its end, also of several pieces", async () => {
    const input = randomBytes(700_000);
    const session = await start({ command: ["cat"] });
    session.stdin.end(input);
    const pieces: Buffer[] = [];
    for await (const piece of session.stdout) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(input));
    assert.equal(await session.exit, 0);
  });

  it("streams both ways while the command runs", async () => {
    const session = await start({ command: ["sh", "-c", 'echo first; while read x; do echo "<$x>"; done'] });
    let shown = "";
    session.stdout.on("data", (bytes: Buffer) => {
      shown += bytes;
    });
    session.stderr.resume();
    const until = async (expected: string) => {
      while (shown !== expected) await sleep(10);
    };
    await until("first\n");
    session.stdin.write("one\n");
    await until("first\n<one>\n");
    session.stdin.end("two\n");
    assert.equal(await session.exit, 0);
    await until("first\n<one>\n<two>\n");
  });

  it("is not hurt by a command that does not read its input", async () => {
    assert.equal((await finish({ command: ["true"] }, randomBytes(1 << 20))).status, 0);
  });

  it("loses no output for a slow reader", async () => {
    const session = await start({ command: ["sh", "-c", "head -c 3000000 /dev/zero"] });
    session.stdin.end();
    session.stderr.resume();
    assert.equal(await session.exit, 0);
    let bytes = 0;
    for await (const piece of session.stdout) bytes += piece.length;
    assert.equal(bytes, 3_000_000);
  });

  it("starts a shell for an empty command", async () => {
    assert.match((await finish({ command: [] }, "echo $((40 + 2)); exit 3\n")).stdout, /42/);
  });

  it("runs as another user", { skip: userInfo().uid !== 0 }, async () => {
    const { stdout } = await finish({
      command: ["sh", "-c", "id -un; echo $A"],
      user: "nobody",
      env: { A: "it's" },
    });
    assert.equal(stdout, "nobody\nit's\n");
  });

  it("delivers signals to the whole group", async () => {
    const session = await start({
      command: ["sh", "-c", "trap 'echo got INT' INT; echo up; sleep 1000; sleep 1000"],
    });
    let shown = "";
    session.stdout.on("data", (bytes: Buffer) => {
      shown += bytes;
    });
    session.stderr.resume();
    while (!shown.includes("up")) await sleep(10);
    session.signal("INT");
    while (!shown.includes("got INT")) await sleep(10);
    session.signal("KILL");
    assert.equal(await session.exit, 137);
  });

  it("ends the command when closed", async () => {
    const session = await start({ command: ["sh", "-c", "echo $$; sleep 1000; sleep 1000"] });
    let pid = "";
    session.stdout.on("data", (bytes: Buffer) => {
      pid += bytes;
    });
    while (!pid.includes("\n")) await sleep(10);
    session.close();
    assert.ok((await session.exit) > 128);
    while (existsSync(`/proc/${pid.trim()}`)) await sleep(10);
  });

  it("refuses a terminal", async () => {
    await assert.rejects(start({ command: ["sh"], tty: { columns: 80, rows: 24, term: "xterm" } }), {
      code: "EXEC_NO_TTY",
    });
  });

  it("rejects when the agent goes away", async () => {
    await using other = await testAgent();
    const session = await agentExec(other.agent, "tiny", {
      command: ["sh", "-c", "readlink /proc/$$/fd/1; exec sleep 2"],
    });
    let file = "";
    session.stdout.on("data", (bytes: Buffer) => {
      file += bytes;
    });
    session.stderr.resume();
    while (!file.endsWith("/out\n")) await sleep(10);
    other.kill();
    await assert.rejects(session.exit, { code: "EXEC_LOST", message: /"tiny"/ });
    await rm(dirname(file), { recursive: true }); // the guest that would have cleaned up is this host
  });
});
