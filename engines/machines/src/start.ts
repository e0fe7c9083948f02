import {
  chmod,
  chown,
  copyFile,
  mkdir,
  open,
  readlink,
  rm,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { bootId, exists, isErrno, type Work } from "@skep/base";
import { type AcceleratorVerdict, chooseAccelerator } from "./accelerator.ts";
import { admit } from "./admission.ts";
import { finishFreeze } from "./disk.ts";
import { fail } from "./errors.ts";
import { checkPassable, giveTo, isRoot, letThrough } from "./host-user.ts";
import { launch, monitor } from "./launch.ts";
import { clearRuntime, LiveMachine } from "./live.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { homePaths, memoryDirectory, socketPathLimit } from "./paths.ts";
import { findProcess, type QemuProcess, signalProcess, waitGone } from "./process.ts";
import { findFirmware, type Qemu } from "./qemu.ts";
import { settleVolumes } from "./settle.ts";
import { refuseSuspended } from "./suspended.ts";
import { releaseVolumes, serveVolumes } from "./volumes.ts";

const adoptTimeoutMs = 10_000;
const quitLimitMs = 15_000;

/** Starts QEMU for a stopped machine and returns once its monitor answers; the guest then boots. */
export async function startMachine(machine: Machine, work: Work): Promise<void> {
  if (machine.live !== undefined) return;
  refuseSuspended(machine, "boot");
  machine.setState("starting");
  const orphan = findProcess(machine.file, machine.runtime.pid);
  if (orphan === undefined) {
    // Of a suspend or resume that ended half way: its memory will not fit the disk.
    if (machine.file.suspended !== null) await machine.save({ suspended: null });
    return await begin(machine, work);
  }
  await giveUpOnFailure(machine, async () => {
    await adoptMachine(machine, orphan);
    await settleVolumes(machine);
  });
}

/** How a saved machine comes into a QEMU that waits for it. */
export interface Incoming {
  /** Writes the guest's memory; `ramPath` has its size and reads as zeros. QEMU starts meanwhile. */
  fill(ramPath: string, signal: AbortSignal): Promise<void>;
  /** Once memory is there: loads the device state. What fails here, or later, ends QEMU. */
  load(live: LiveMachine): Promise<void>;
}

/**
 * Starts QEMU as `startMachine` does, but for a guest that is brought along: it stands still until it is
 * told to go on. Where this fails no QEMU is left, and the machine is what it was.
 */
export async function launchIncoming(machine: Machine, work: Work, incoming: Incoming): Promise<void> {
  machine.setState("resuming");
  // One that was told to end after its state was saved, and has not heard it.
  const orphan = findProcess(machine.file, machine.runtime.pid);
  if (orphan !== undefined) {
    signalProcess(orphan, "SIGKILL");
    await waitGone(orphan, adoptTimeoutMs);
  }
  await begin(machine, work, incoming);
}

/** Ends a QEMU whose guest must not go on, or has nothing left to do. */
export async function endQemu(live: LiveMachine): Promise<void> {
  live.stopRequested = true;
  await live.qmp.execute("quit", {}, { timeoutMs: quitLimitMs }).catch(() => undefined);
  if (!(await waitGone(live.process, quitLimitMs))) signalProcess(live.process, "SIGKILL");
  await live.gone;
}

async function giveUpOnFailure(machine: Machine, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (machine.live !== undefined) throw error;
    if (findProcess(machine.file, machine.runtime.pid) !== undefined) {
      // A QEMU that cannot be talked to is still the machine: nothing of it may be cleared away.
      machine.setState("running", monitorSilent);
    } else {
      await clearRuntime(machine);
      await releaseVolumes(machine);
      machine.setState(machine.restState, (error as Error).message.split("\n")[0]);
    }
    throw error;
  }
}

async function begin(machine: Machine, work: Work, incoming?: Incoming): Promise<void> {
  work.report({ phase: `${incoming === undefined ? "starting" : "resuming"} ${machine.name}` });
  await giveUpOnFailure(machine, async () => {
    const { qemu, verdict } = await prepareStart(machine, work);
    if (incoming === undefined) return await launch(machine, qemu, verdict);
    await launchAndLoad(machine, work, incoming, (more) => launch(machine, qemu, verdict, more));
  });
}

async function launchAndLoad(
  machine: Machine,
  work: Work,
  { fill, load }: Incoming,
  launchWith: (more: readonly string[]) => Promise<void>,
): Promise<void> {
  const failed = new AbortController();
  const ramPath = join(memoryDirectory(machine.file.id), "ram");
  await truncate(ramPath, machine.file.memoryMiB * 1024 ** 2);
  const filling = fill(ramPath, AbortSignal.any([work.signal, failed.signal]));
  filling.catch(() => undefined);
  try {
    await launchWith(["-incoming", "defer", "-S"]);
    await filling;
    work.signal.throwIfAborted();
    await load(machine.running());
  } catch (error) {
    failed.abort(error);
    await filling.catch(() => undefined);
    if (machine.live !== undefined) await endQemu(machine.live);
    throw error;
  }
}

/** What QEMU needs before it can be started, volumes served included. */
async function prepareStart(
  machine: Machine,
  work: Work,
): Promise<{ qemu: Qemu; verdict: AcceleratorVerdict }> {
  const { context, file } = machine;
  const running = [...context.machines.values()].filter((other) => !other.atRest && other !== machine);
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
  return { qemu, verdict };
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
