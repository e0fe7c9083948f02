import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestAgent } from "@skep/qmp";

const program = "/usr/sbin/qemu-ga";

export const noAgent = existsSync(program) ? false : "qemu-guest-agent is not installed";

export interface TestAgent extends AsyncDisposable {
  agent: GuestAgent;
  kill(): void;
}

/** For tests: a real guest agent, whose guest is this host. */
export async function testAgent(): Promise<TestAgent> {
  const directory = await mkdtemp("/tmp/skep-ga-");
  const path = join(directory, "agent.sock");
  const server = spawn(
    program,
    ["-m", "unix-listen", "-p", path, "-t", directory, "-f", join(directory, "pid")],
    {
      stdio: "ignore",
    },
  );
  while (!existsSync(path)) {
    if (server.exitCode !== null) throw new Error("qemu-ga ended");
    await sleep(10);
  }
  const agent = new GuestAgent(path);
  return {
    agent,
    kill: () => server.kill("SIGKILL"),
    async [Symbol.asyncDispose]() {
      agent.disconnect();
      server.kill("SIGKILL");
      await rm(directory, { recursive: true, force: true });
    },
  };
}
