import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { run } from "@skep/base";
import { freePort } from "@skep/base/testing";
import type { SshGuest } from "./ssh.ts";

const sshd = "/usr/sbin/sshd";

export const noSshd = existsSync(sshd) ? false : "openssh-server is not installed";

export interface TestSshd extends AsyncDisposable {
  guest: SshGuest;
  directory: string;
  stop(): Promise<void>;
  /** Starts it (again), with new host keys when asked for. */
  start(newKeys?: boolean): Promise<void>;
}

/** For tests: a real sshd of our own on a free port, in the place of a guest's. */
export async function testSshd(options: { start?: boolean } = {}): Promise<TestSshd> {
  const directory = await mkdtemp("/tmp/skep-ssh-");
  const key = join(directory, "id");
  const port = await freePort();
  await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  await writeFile(join(directory, "authorized_keys"), await readFile(`${key}.pub`));
  await writeFile(
    join(directory, "config"),
    [
      `ListenAddress 127.0.0.1:${port}`,
      `HostKey ${directory}/host`,
      `AuthorizedKeysFile ${directory}/authorized_keys`,
      `PidFile ${directory}/pid`,
      "PermitRootLogin yes",
      "PasswordAuthentication no",
      "StrictModes no",
      "UsePAM no",
      "",
    ].join("\n"),
  );
  if (userInfo().uid === 0) await mkdir("/run/sshd", { recursive: true });
  let server: ChildProcess | undefined;
  const stop = async () => {
    if (server === undefined || server.exitCode !== null) return;
    const gone = new Promise((resolve) => server?.once("exit", resolve));
    server.kill("SIGKILL");
    await gone;
    server = undefined;
  };
  const start = async (newKeys = true) => {
    if (newKeys) {
      await rm(join(directory, "host"), { force: true });
      await run("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", join(directory, "host")]);
    }
    server = spawn(sshd, ["-D", "-f", join(directory, "config"), "-E", join(directory, "log")], {
      stdio: "ignore",
    });
    while (!existsSync(join(directory, "pid"))) {
      if (server.exitCode !== null) throw new Error(await readFile(join(directory, "log"), "utf8"));
      await sleep(10);
    }
    await rm(join(directory, "pid"));
  };
  if (options.start !== false) await start();
  return {
    directory,
    start,
    stop,
    guest: {
      name: "web",
      file: { ssh: true, user: userInfo().username },
      paths: { knownHosts: join(directory, "known_hosts") },
      context: { ownKeys: async () => ({ path: key }) },
      sshPort: () => ({ host: "127.0.0.1", port }),
    },
    async [Symbol.asyncDispose]() {
      await stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
