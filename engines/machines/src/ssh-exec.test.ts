import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "@skep/base";
import { SshConnections } from "./ssh.ts";
import { sshExec } from "./ssh-exec.ts";
import { noSshd, type TestSshd, testSshd } from "./ssh-fixture.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const pieces: Buffer[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

describe("exec over ssh", { skip: noSshd }, () => {
  let sshd: TestSshd;
  let connections: SshConnections;
  before(async () => {
    sshd = await testSshd();
    connections = new SshConnections();
  });
  after(async () => {
    await connections[Symbol.asyncDispose]();
    await sshd[Symbol.asyncDispose]();
  });

  const start = async (request: ExecRequest): Promise<ExecSession> =>
    await sshExec(await connections.connect(sshd.guest), request);

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
    const words = ["a b", "", "it's", '"$HOME"', "`id`", "*", "-n", "ü€", "new\nline", "\\", "!x", "A=b"];
    const { stdout } = await finish({ command: ["printf", "[%s]", ...words] });
    assert.equal(stdout, words.map((word) => `[${word}]`).join(""));
    const env = { WORD: "two 'words' $HOME\n", LANG: "C" };
    assert.equal((await finish({ command: ["printenv", "WORD"], env })).stdout, `${env.WORD}\n`);
    assert.equal((await finish({ command: ["A=b", "x"], env })).status, 127);
  });

  it("refuses what cannot be a command", async () => {
    for (const request of [
      { command: [""] },
      { command: ["a\0b"] },
      { command: ["env"], env: { "A;id": "1" } },
    ]) {
      await assert.rejects(start(request), { code: "EXEC_NOT_STARTED" });
    }
  });

  it("passes input of any kind and size, and its end", async () => {
    const input = randomBytes(3 << 20);
    const session = await start({ command: ["cat"] });
    session.stdin.end(input);
    const pieces: Buffer[] = [];
    for await (const piece of session.stdout) pieces.push(piece);
    assert.ok(Buffer.concat(pieces).equals(input));
    assert.equal(await session.exit, 0);
  });

  it("is not hurt by a command that does not read its input", async () => {
    assert.equal((await finish({ command: ["true"] }, randomBytes(4 << 20))).status, 0);
  });

  it("starts the login shell for an empty command", async () => {
    assert.match((await finish({ command: [] }, "echo $((40 + 2)); exit 3\n")).stdout, /42/);
    const withEnv = await finish({ command: [], env: { WORD: "x y" } }, 'echo "<$WORD>"; exit 3\n');
    assert.match(withEnv.stdout, /<x y>/);
    assert.equal(withEnv.status, 3);
  });

  it("gives a terminal that can be resized", async () => {
    const session = await start({
      command: ["sh", "-c", "stty size; echo $TERM; read line; stty size"],
      tty: { columns: 100, rows: 30, term: "vt220" },
    });
    let shown = "";
    session.stdout.on("data", (bytes: Buffer) => {
      shown += bytes;
    });
    while (!shown.includes("vt220")) await sleep(10);
    assert.match(shown, /^30 100\r\nvt220/);
    session.resize(120, 40);
    session.stdin.write("\n");
    assert.equal(await session.exit, 0);
    while (!shown.includes("40 120")) await sleep(10);
    assert.equal(await text(session.stderr), "");
  });

  /** A script that tells its pid in a file and what signals it got; the shell's child is in its group. */
  const watched = (name: string) => {
    const pidFile = join(sshd.directory, name);
    const script = `trap 'echo got INT' INT; (echo $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}); sleep 1000; sleep 1000`;
    const started = async () => {
      while (!existsSync(pidFile)) await sleep(10);
      return Number(readFileSync(pidFile, "utf8"));
    };
    const gone = async (pid: number) => {
      while (existsSync(`/proc/${pid}`)) await sleep(20);
    };
    return { script, started, gone };
  };

  for (const tty of [undefined, { columns: 80, rows: 24, term: "xterm" }]) {
    it(`delivers signals ${tty === undefined ? "without" : "with"} a terminal`, async () => {
      const { script, started } = watched(`signal-${tty === undefined}`);
      const session = await start({ command: ["sh", "-c", script], ...(tty === undefined ? {} : { tty }) });
      let shown = "";
      session.stdout.on("data", (bytes: Buffer) => {
        shown += bytes;
      });
      session.stderr.resume();
      await started();
      // Again where it came while the shell's child was not yet what it becomes: then nobody has it.
      for (let waitedMs = 0; !shown.includes("got INT"); waitedMs += 10) {
        if (waitedMs % 5000 === 0) session.signal("INT");
        await sleep(10);
      }
      session.signal("SIGKILL");
      assert.equal(await session.exit, 137);
    });

    it(`ends the remote command when closed ${tty === undefined ? "without" : "with"} a terminal`, async () => {
      const { script, started, gone } = watched(`close-${tty === undefined}`);
      const session = await start({ command: ["sh", "-c", script], ...(tty === undefined ? {} : { tty }) });
      session.stdout.resume();
      session.stderr.resume();
      const pid = await started();
      session.close();
      session.close();
      await gone(pid);
      await session.exit.catch(() => {});
    });
  }

  it("ends plain sleep 1000 when closed at once, and one that ignores requests", async () => {
    const plain = await start({ command: ["sleep", "1000.0625"] });
    plain.close();
    await plain.exit.catch(() => {});
    while ((await run("pgrep", ["-f", "^sleep 1000.0625"], { okStatuses: [0, 1] })).status === 0)
      await sleep(50);
    const pidFile = join(sshd.directory, "stubborn");
    const stubborn = await start({
      command: ["sh", "-c", `trap '' HUP TERM INT; echo $$ > ${pidFile}; while :; do sleep 1; done`],
    });
    while (!existsSync(pidFile) || readFileSync(pidFile, "utf8") === "") await sleep(10);
    stubborn.close();
    while (existsSync(`/proc/${readFileSync(pidFile, "utf8").trim()}`)) await sleep(50);
  });

  it("rejects when the connection is lost", async () => {
    const own = new SshConnections();
    const session = await sshExec(await own.connect(sshd.guest), { command: ["cat"] });
    own.drop("web");
    await assert.rejects(session.exit, { code: "SSH_LOST", message: /"web"/ });
    await own[Symbol.asyncDispose]();
  });
});
