import { type ChildProcess, spawn } from "node:child_process";
import {
  chmod,
  chown,
  copyFile,
  mkdir,
  open,
  readlink,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bootId, ensureDirectory, exists, isErrno, processStartTime, type Work } from "@skep/base";
import { QmpClient } from "@skep/qmp";
import { type AcceleratorVerdict, chooseAccelerator } from "./accelerator.ts";
import { admit } from "./admission.ts";
import { qemuArguments } from "./argv.ts";
import { finishFreeze } from "./disk.ts";
import { fail } from "./errors.ts";
import { chooseFreePort, isFree } from "./host-ports.ts";
import { asUser, checkPassable, giveTo, isRoot, kvmGroup, letThrough } from "./host-user.ts";
import { clearRuntime, LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { homePaths, memoryDirectory, socketPathLimit } from "./paths.ts";
import { portOwner } from "./ports.ts";
import { findProcess, type QemuProcess, waitGone } from "./process.ts";
import { findFirmware, type Qemu } from "./qemu.ts";
import { settleVolumes } from "./settle.ts";
import { releaseVolumes, serveVolumes } from "./volumes.ts";

/** QEMU answers its monitor within a second or so; a host under heavy load may take longer. */
const monitorTimeoutMs = 60_000;
const adoptTimeoutMs = 10_000;
const portAttempts = 5;

/** Starts QEMU for a stopped machine and returns once its monitor answers; the guest then boots. */
export async function startMachine(machine: Machine, work: Work): Promise<void> {
  if (machine.live !== undefined) return;
  const { context, file } = machine;
  machine.setState("starting");
  try {
    work.report({ phase: `starting ${machine.name}` });
    const orphan = findProcess(file, machine.runtime.pid);
    if (orphan !== undefined) {
      await adoptMachine(machine, orphan);
      await settleVolumes(machine);
      return;
    }
    const running = [...context.machines.values()].filter(
      (other) => other.state !== "stopped" && other !== machine,
    );
    await admit(
      machine.name,
      file.memoryMiB,
      running.map((other) => other.file),
    );
    const qemu = await context.programs.get(file.arch);
    const verdict = await chooseAccelerator({
      arch: file.arch,
      qemu,
      cache: homePaths(context.home).accelerator,
      kernel: file.boot === null ? null : join(context.home, file.boot.kernel),
      signal: work.signal,
    });
    if (file.disk?.base?.path.startsWith("layers/")) {
      await finishFreeze({
        home: context.home,
        disk: machine.paths.disk,
        sizeBytes: file.disk.sizeBytes,
        base: file.disk.base,
        uid: file.uid,
      });
    }
    await prepare(machine);
    machine.run = {
      version: 1,
      startedAt: new Date().toISOString(),
      bootId: bootId(),
      accelerator: verdict.accelerator,
      qemuVersion: qemu.version,
      stoppedAt: null,
      reason: null,
      served: machine.run?.served ?? {},
    };
    await serveVolumes(machine, work);
    work.signal.throwIfAborted();
    await launch(machine, qemu, verdict);
  } catch (error) {
    if (machine.live !== undefined) throw error;
    if (findProcess(file, machine.runtime.pid) !== undefined) {
      // A QEMU that cannot be talked to is still the machine: nothing of it may be cleared away.
      machine.setState("running", monitorSilent);
    } else {
      await clearRuntime(machine);
      await releaseVolumes(machine);
      machine.setState("stopped", (error as Error).message.split("\n")[0]);
    }
    throw error;
  }
}

export const monitorSilent = "its monitor does not answer (is another program connected to qmp.sock?)";

/**
 * Takes over a QEMU that is running already, as after a restart of skepd; it may have been started
 * only a moment ago, and its monitor not be there yet.
 */
export async function adoptMachine(machine: Machine, process: QemuProcess): Promise<void> {
  const over = new AbortController();
  const gone = waitGone(process, adoptTimeoutMs, over.signal).catch(() => undefined);
  const giveUp = new AbortController();
  gone.then(() => giveUp.abort()).catch(() => undefined);
  try {
    const qmp = await monitor(machine.runtime.qmp, giveUp.signal);
    await LiveMachine.attach(machine, process, qmp);
  } finally {
    over.abort();
  }
}

/** Everything QEMU needs to find: directories of its own, log files, links. */
async function prepare(machine: Machine): Promise<void> {
  const { context, file, paths, runtime } = machine;
  const longest = runtime.control;
  if (longest.length > socketPathLimit) {
    throw fail("SOCKET_PATH_LONG", { path: longest, length: longest.length, limit: socketPathLimit });
  }
  if (file.uid !== null) await checkPassable(context.home);
  await clearRuntime(machine);
  await mkdir(runtime.directory, { recursive: true, mode: 0o711 });
  if (isRoot) await chmod(runtime.directory, 0o711);
  await mkdir(runtime.qemu, { mode: 0o700 });
  if (file.uid !== null) await chown(runtime.qemu, file.uid, file.uid);
  if (process.platform === "linux") {
    await prepareMemory(file);
  }
  for (const [name, target] of [
    ["console.sock", runtime.console],
    ["control.sock", runtime.control],
  ] as const) {
    await linkTo(join(paths.directory, name), target);
  }
  const log = await open(paths.consoleLog, "a", 0o600);
  await log.close();
  await giveTo(file.uid, paths.consoleLog, 0o600);
  await prepareFirmware(machine);
}

/** A UEFI machine's variables, which its command line names: made once and kept, unless on a volume. */
export async function prepareFirmware({ file, paths }: Machine): Promise<void> {
  if (file.volumes.some(({ role }) => role === "efi")) return;
  if (file.firmware !== "uefi" || (await exists(paths.efiVars))) return;
  await copyFile((await findFirmware(file.arch)).vars, paths.efiVars);
  await giveTo(file.uid, paths.efiVars, 0o600);
}

/**
 * The directory stays ours and only the file is QEMU's: what its user owned in /dev/shm, it could
 * replace by a link elsewhere.
 */
async function prepareMemory({ id, uid, name }: MachineFile): Promise<void> {
  const directory = memoryDirectory(id);
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    if (!isErrno(error, "EEXIST")) throw error;
    throw fail("MEMORY_OCCUPIED", { name, path: directory }, { cause: error });
  }
  await letThrough(uid, directory);
  const ram = join(directory, "ram");
  await writeFile(ram, "", { flag: "wx", mode: 0o600 });
  await giveTo(uid, ram, 0o600);
}

async function linkTo(path: string, target: string): Promise<void> {
  const present = await readlink(path).catch(() => undefined);
  if (present === target) return;
  await rm(path, { force: true });
  await symlink(target, path);
}

/** The machine's command line on this host. */
export async function commandLine(
  machine: Machine,
  qemu: Qemu,
  verdict: AcceleratorVerdict,
): Promise<string[]> {
  const { context, file, paths, runtime } = machine;
  return qemuArguments(file, {
    qemu: qemu.path,
    accelerator: verdict.accelerator,
    home: context.home,
    paths,
    runtime,
    firmwareCode: file.firmware === "uefi" ? (await findFirmware(file.arch)).code : null,
    served: machine.run?.served ?? {},
  });
}

/** Spawns QEMU; a port that skepd chose and another program took meanwhile is chosen anew. */
async function launch(machine: Machine, qemu: Qemu, verdict: AcceleratorVerdict): Promise<void> {
  const { context } = machine;
  for (let attempt = 1; ; attempt += 1) {
    await moveTakenPorts(machine);
    await machine.saveRun(() => ({ startedAt: new Date().toISOString() }));
    const logSize = await stat(machine.paths.qemuLog).then(
      ({ size }) => size,
      () => 0,
    );
    const child = await spawnQemu(machine, await commandLine(machine, qemu, verdict), verdict);
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
): Promise<ChildProcess> {
  const { file, paths, runtime } = machine;
  await ensureDirectory(runtime.qemu);
  const groups = file.uid !== null && verdict.accelerator === "kvm" ? await kvmGroup() : [];
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

async function monitor(path: string, signal: AbortSignal): Promise<QmpClient> {
  const until = performance.now() + monitorTimeoutMs;
  for (;;) {
    try {
      return await QmpClient.connect(path, { signal, timeoutMs: monitorTimeoutMs });
    } catch (error) {
      if (signal.aborted || performance.now() > until) throw error;
    }
    await sleep(10, undefined, { signal });
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
