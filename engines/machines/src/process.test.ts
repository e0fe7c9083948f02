import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { run } from "@skep/base";
import { isRoot } from "./host-user.ts";
import { findProcess, findProcesses } from "./process.ts";

describe("finding the QEMU of a machine", () => {
  const machine = { id: randomUUID(), uid: null };
  let directory: string;
  let pidFile: string;
  let child: ChildProcess | undefined;

  beforeEach(() => {
    directory = mkdtempSync("/tmp/skep-process-");
    pidFile = join(directory, "qemu.pid");
  });

  afterEach(() => {
    child?.kill("SIGKILL");
    child = undefined;
    rmSync(directory, { recursive: true });
  });

  async function pretend(program: string, options: { uid?: number } = {}): Promise<number> {
    const node = 'process.stdout.write("."); setTimeout(() => {}, 1e6)';
    const args = ["-e", node, "--", "-uuid", machine.id];
    const process_ = spawn(process.execPath, args, { ...options, argv0: program, cwd: "/" });
    child = process_;
    await new Promise((resolve, reject) => process_.once("error", reject).stdout.once("data", resolve));
    return process_.pid as number;
  }

  it("knows it by its command line, with or without its pidfile", async () => {
    const pid = await pretend("qemu-system-x86_64");
    assert.equal(findProcess(machine, pidFile)?.pid, pid);
    writeFileSync(pidFile, `${pid}\n`);
    assert.equal(findProcess(machine, pidFile)?.pid, pid);
    assert.equal(findProcesses([machine]).get(machine.id)?.pid, pid);
  });

  it("takes no other program for it, whatever the pidfile says", async () => {
    writeFileSync(pidFile, String(await pretend("another-program")));
    assert.equal(findProcess(machine, pidFile), undefined);
  });

  it("takes no other user's process for it", { skip: !isRoot }, async () => {
    const pid = await pretend("qemu-system-x86_64", { uid: 65_534 });
    assert.equal(findProcess(machine, pidFile), undefined);
    assert.equal(findProcesses([machine]).size, 0);
    assert.equal(findProcess({ ...machine, uid: 65_534 }, pidFile)?.pid, pid);
  });

  it("does not wait for, or fail on, what QEMU put in place of its pidfile", async () => {
    await run("mkfifo", [pidFile]);
    assert.equal(findProcess(machine, pidFile), undefined);
    rmSync(pidFile);
    symlinkSync("/dev/zero", pidFile);
    assert.equal(findProcess(machine, pidFile), undefined);
    rmSync(pidFile);
    symlinkSync(directory, pidFile);
    assert.equal(findProcess(machine, pidFile), undefined);
  });
});
