import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestAgent } from "@skep/qmp";
import { noAgent, testAgent } from "./agent-fixture.ts";
import { type ExecGuest, openExec } from "./exec.ts";
import { SshConnections } from "./ssh.ts";
import { noSshd, type TestSshd, testSshd } from "./ssh-fixture.ts";

function guestOf(
  sshd: TestSshd,
  ssh: SshConnections,
  agent: GuestAgent | undefined,
  hasSsh = true,
): ExecGuest {
  return {
    ...sshd.guest,
    file: { ...sshd.guest.file, ssh: hasSsh },
    context: { ...sshd.guest.context, ssh },
    live: agent === undefined ? undefined : { agent },
  };
}

async function output(guest: ExecGuest): Promise<{ transport: string; stdout: string }> {
  const session = await openExec(guest, { command: ["sh", "-c", "echo hello; readlink /proc/$$/fd/1"] });
  session.stdin.end();
  session.stderr.resume();
  let stdout = "";
  for await (const piece of session.stdout) stdout += piece;
  assert.equal(await session.exit, 0);
  const [hello = "", file = ""] = stdout.split("\n");
  // Over the agent, output went to a file of this host, which is cleared away in a moment.
  while (session.transport === "agent" && existsSync(dirname(file))) await sleep(10);
  return { transport: session.transport, stdout: hello };
}

describe("openExec", { skip: noSshd || noAgent }, () => {
  it("takes ssh where it answers", async () => {
    await using sshd = await testSshd();
    await using ssh = new SshConnections();
    assert.deepEqual(await output(guestOf(sshd, ssh, undefined)), { transport: "ssh", stdout: "hello" });
  });

  it("takes the agent where there is no ssh, or none that answers", async () => {
    await using sshd = await testSshd({ start: false });
    await using ssh = new SshConnections();
    await using guest = await testAgent();
    for (const hasSsh of [true, false]) {
      const { transport, stdout } = await output(guestOf(sshd, ssh, guest.agent, hasSsh));
      assert.deepEqual([transport, stdout], ["agent", "hello"]);
    }
  });

  it("names both failures when neither answers", async () => {
    await using sshd = await testSshd({ start: false });
    await using ssh = new SshConnections();
    await using agent = new GuestAgent("/tmp/skep-no-such.sock");
    await assert.rejects(output(guestOf(sshd, ssh, agent)), {
      code: "EXEC_UNREACHABLE",
      message: /nobody listens.*no such socket/,
    });
  });

  it("does not go around an ssh server that refuses the login", async () => {
    await using sshd = await testSshd();
    await writeFile(`${sshd.directory}/authorized_keys`, "");
    await using ssh = new SshConnections();
    await using guest = await testAgent();
    await assert.rejects(output(guestOf(sshd, ssh, guest.agent)), { code: "SSH_AUTH" });
  });
});
