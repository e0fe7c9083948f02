import { type ChildProcess, spawn } from "node:child_process";
import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { ensureDirectory, isErrno, processStartTime } from "@skep/base";
import { QmpClient } from "@skep/qmp";
import type { AcceleratorVerdict } from "./accelerator.ts";
import { qemuArguments } from "./argv.ts";
import { fail } from "./errors.ts";
import { chooseFreePort, isFree } from "./host-ports.ts";
import { asUser, kvmGroup } from "./host-user.ts";
import { LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import { frozenRam, memoryDirectory } from "./paths.ts";
import { portOwner } from "./ports.ts";
import { findFirmware, type Qemu } from "./qemu.ts";

/** QEMU answers its monitor within a second or so; a host under heavy load may take longer. */
const monitorTimeoutMs = 60_000;
/** It is there some 80 ms after QEMU's start, and whoever waits for a resume or a copy waits for it. */
const monitorPollMs = 3;
const portAttempts = 5;

/** The machine's command line on this host. */
export async function commandLine(
  machine: Machine,
  qemu: Qemu,
  verdict: Pick<AcceleratorVerdict, "accelerator">,
): Promise<string[]> {
  const { context, file, paths, runtime } = machine;
  const frozen = machine.run?.memory.frozen ?? null;
  const memory =
    frozen === null
      ? { path: join(memoryDirectory(file.id), "ram"), share: true }
      : { path: frozenRam(frozen), share: false };
  return qemuArguments(machine.forwardsHeld ? { ...file, ports: [] } : file, {
    qemu: qemu.path,
    accelerator: verdict.accelerator,
    home: context.home,
    paths,
    runtime,
    firmwareCode: file.firmware === "uefi" ? (await findFirmware(file.arch)).code : null,
    served: machine.run?.served ?? {},
    memory,
    helper: machine.run?.helper ?? true,
  });
}

export interface LaunchOptions {
  /** Arguments after those of `commandLine`. */
  more?: readonly string[];
  /** Groups that QEMU is in beside its own, where skepd is root. */
  groups?: readonly number[];
}

/** Spawns QEMU; a port that skepd chose and another program took meanwhile is chosen anew. */
export async function launch(
  machine: Machine,
  qemu: Qemu,
  verdict: AcceleratorVerdict,
  { more = [], groups = [] }: LaunchOptions = {},
): Promise<void> {
  const { context } = machine;
  for (let attempt = 1; ; attempt += 1) {
    await moveTakenPorts(machine);
    await machine.saveRun(() => ({ startedAt: new Date().toISOString() }));
    const logSize = await stat(machine.paths.qemuLog).then(
      ({ size }) => size,
      () => 0,
    );
    const argv = [...(await commandLine(machine, qemu, verdict)), ...more];
    const child = await spawnQemu(machine, argv, verdict, groups);
    try {
      await connect(machine, child);
      return;
    } catch (error) {
      const stderr = await logSince(machine.paths.qemuLog, logSize);
      const port = /Could not set up host forwarding rule '(?:tcp|udp):[^:]*:(\d+)-:(\d+)'/.exec(stderr);
      if (port === null) {
        if (stderr === "") throw error;
        throw fail("QEMU_FAILED", { name: machine.name, stderr }, { cause: error });
      }
      const taken = machine.file.ports.find(({ hostPort }) => hostPort === Number(port[1]));
      if (taken?.automatic !== true || attempt === portAttempts) {
        throw fail(
          "PORT_TAKEN",
          { port: port[1], by: " by another program", guest: port[2] },
          { cause: error },
        );
      }
      context.log.info({ machine: machine.name, port: taken.hostPort }, "port taken, choosing another");
    }
  }
}

async function moveTakenPorts(machine: Machine): Promise<void> {
  if (machine.forwardsHeld) return;
  const owner = portOwner(machine.context, machine);
  let moved = false;
  const ports = [];
  for (const port of machine.file.ports) {
    if (port.automatic && !(await isFree(port.hostAddress, port.hostPort, port.protocol))) {
      const hostPort = await chooseFreePort(
        port.hostAddress,
        port.protocol,
        (candidate) => owner(candidate, port.protocol) !== undefined,
      );
      ports.push({ ...port, hostPort });
      moved = true;
    } else ports.push(port);
  }
  if (moved) await machine.save({ ports });
}

async function spawnQemu(
  machine: Machine,
  argv: string[],
  verdict: AcceleratorVerdict,
  more: readonly number[],
): Promise<ChildProcess> {
  const { file, paths, runtime } = machine;
  await ensureDirectory(runtime.qemu);
  const kvm = file.uid !== null && verdict.accelerator === "kvm" ? await kvmGroup() : [];
  const groups = [...kvm, ...more];
  const [program, ...args] = asUser(file.uid, groups, argv) as [string, ...string[]];
  const log = await open(paths.qemuLog, "a", 0o600);
  try {
    const child = spawn(program, args, {
      detached: true,
      stdio: ["ignore", log.fd, log.fd],
      cwd: "/",
      env: { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C.UTF-8" },
    });
    await new Promise<void>((resolve, reject) => {
      child.once("spawn", resolve);
      child.once("error", reject);
    });
    child.unref();
    return child;
  } finally {
    await log.close();
  }
}

/** Waits for the monitor, or for the process to end before it. */
async function connect(machine: Machine, child: ChildProcess): Promise<void> {
  const pid = child.pid as number;
  const exited = new Promise<string>((resolve) => {
    child.once("exit", (code, signal) => resolve(signal ?? `status ${code}`));
  });
  const giveUp = new AbortController();
  const ended = exited.then((how) => {
    giveUp.abort();
    throw fail("QEMU_FAILED", { name: machine.name, stderr: `it ended at once (${how})` });
  });
  ended.catch(() => undefined);
  const startTime = processStartTime(pid) ?? "";
  try {
    const qmp = await Promise.race([monitor(machine.runtime.qmp, giveUp.signal), ended]);
    const attaching = LiveMachine.attach(machine, { pid, startTime }, qmp);
    if (machine.live !== undefined) machine.live.exited = exited;
    await attaching;
  } catch (error) {
    giveUp.abort();
    if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
    await exited;
    await machine.live?.gone;
    throw error;
  }
}

export async function monitor(path: string, signal: AbortSignal): Promise<QmpClient> {
  const until = performance.now() + monitorTimeoutMs;
  for (;;) {
    try {
      return await QmpClient.connect(path, { signal, timeoutMs: monitorTimeoutMs });
    } catch (error) {
      if (signal.aborted || performance.now() > until) throw error;
    }
    await sleep(monitorPollMs, undefined, { signal });
  }
}

/** What QEMU wrote to its log since `offset`, without time stamps, at most the last 12 lines. */
async function logSince(path: string, offset: number): Promise<string> {
  try {
    const handle = await open(path, "r");
    const end = Buffer.alloc(64 * 1024); // QEMU may have written without end
    const { bytesRead } = await handle
      .stat()
      .then(({ size }) => handle.read(end, 0, end.length, Math.max(offset, size - end.length)))
      .finally(() => handle.close());
    const lines = end.toString("utf8", 0, bytesRead).trim().split("\n").slice(-12);
    return lines
      .map((line) => line.replace(/^\d{4}-\d\d-\d\dT[\d:.]+Z /, "").replace(/^\S*qemu-system-\S+: /, ""))
      .join("\n");
  } catch (error) {
    if (isErrno(error, "ENOENT")) return "";
    throw error;
  }
}
