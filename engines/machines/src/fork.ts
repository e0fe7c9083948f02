import { randomUUID } from "node:crypto";
import { copyFile, link, mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { checkName, exists, readFileIfThere, syncDirectory, syncFile, Undo, type Work } from "@skep/base";
import { clearRuntime } from "./clear-runtime.ts";
import { allFiles, type Context } from "./context.ts";
import { discard } from "./discard.ts";
import { createDisk, type DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import { chooseFreePort, settlePorts } from "./host-ports.ts";
import { allocateUid, giveTo, isRoot, letThrough } from "./host-user.ts";
import { copyOverlay, type DiskLayers } from "./layers.ts";
import { Machine } from "./machine.ts";
import {
  type MachineFile,
  newIdentity,
  readMachineFile,
  type VolumeOfMachine,
  writeMachineFile,
} from "./machine-file.ts";
import { discardUnfinished, writeUnfinished } from "./own-volumes.ts";
import { homePaths, machinePaths } from "./paths.ts";
import { portOwner } from "./ports.ts";
import { findProcess, signalProcess, waitGone } from "./process.ts";
import { endQemu } from "./start.ts";

/**
 * Copies of machines that ran. A copy has its name, and shows as `starting`, from the beginning: QEMU opens disks by
 * their paths, and again later, so that they cannot be renamed under it. Until `finishFork` the file `forking` says
 * that it is half made; where that lies when skepd starts, the copy and its QEMU go.
 */

const endLimitMs = 10_000;
/** Begins the name of a mark of copies that are made together. */
export const forksMark = ".forking-";

export interface ForkedFrom {
  /** The machine as it was at that instant. */
  source: MachineFile;
  /** Of its disks at that instant. Hold them until this is over (`holdLayers`). */
  layers: DiskLayers;
  /** What the copy's ssh server will prove to be: `ssh-ed25519 AAAA…`. Empty: learned at the first connection. */
  hostKeys: readonly string[];
  /** Where its UEFI variables and seed are to be copied from; absent: the source's directory. */
  directory?: string;
  /** Whether it boots as its source did, too: by the same cloud-init instance. */
  keepsSeed?: boolean;
  /** Of `beginForks`, where others are made together with it. */
  mark?: string;
  /** New ones, which go with it until it is finished. Default: none. */
  volumes?: VolumeOfMachine[];
  /** Where its UEFI variables are, if not among those files. */
  efiVars?: string;
}

/**
 * Makes a machine that is to go on as another one was. Within a turn of the new name. It has ports of its own, of the
 * same guest's ports, its own MAC, id and user; the volumes that it names are still to be made. Its seed is the
 * source's until `writeForkSeed`, or for good. Where this fails nothing is left; after it, end with `finishFork` or `abandonFork`. MACHINE_EXISTS, NAME_INVALID.
 */
export async function createFork(
  context: Context,
  name: string,
  from: ForkedFrom,
  work: Work,
): Promise<Machine> {
  checkName(name);
  const paths = machinePaths(context.home, name);
  const file = await context.locks.run("new", async () => {
    if (context.machines.has(name) || (await exists(paths.directory))) throw fail("MACHINE_EXISTS", { name });
    const composed = await composeFork(context, name, from);
    context.pending.add(composed);
    return composed;
  });
  try {
    return await writeFork(context, file, from, work);
  } finally {
    context.pending.delete(file);
  }
}

async function composeFork(
  context: Context,
  name: string,
  { source, layers, volumes = [], keepsSeed = false }: ForkedFrom,
): Promise<MachineFile> {
  const { disk, dataDisks, ports, telnetPort } = source;
  const files = allFiles(context);
  const owner = portOwner(context);
  const requests = ports.map(({ hostAddress, guestPort, protocol }) => ({
    hostAddress,
    guestPort,
    protocol,
    hostPort: 0,
  }));
  return {
    ...source,
    ...newIdentity(),
    name,
    from: source.name,
    uid: allocateUid(new Set(files.map(({ uid }) => uid))),
    disk: disk === null ? null : { sizeBytes: disk.sizeBytes, base: layers.disk },
    dataDisks: dataDisks.map(({ sizeBytes }, index) => ({
      sizeBytes,
      base: layers.dataDisks[index] ?? null,
    })),
    volumes,
    reverting: undefined,
    ports: await settlePorts(requests, owner),
    telnetPort:
      telnetPort === null
        ? null
        : await chooseFreePort("127.0.0.1", "tcp", (port) => owner(port, "tcp") !== undefined),
    autostart: false,
    seedOfSource: source.seeded && !keepsSeed,
    snapshot: undefined,
    setBackAt: undefined,
    suspended: null,
  };
}

async function writeFork(
  context: Context,
  file: MachineFile,
  { source, hostKeys, directory: origin, mark, efiVars }: ForkedFrom,
  work: Work,
): Promise<Machine> {
  const { name, uid, disk, dataDisks } = file;
  const paths = machinePaths(context.home, name);
  await using undo = new Undo();
  const directory = join(homePaths(context.home).machines, `.new-${file.id}`);
  await mkdir(directory, { mode: 0o700 });
  undo.push(() => rm(directory, { recursive: true, force: true }));
  if (isRoot) await letThrough(uid, directory);
  const inside = (path: string) => join(directory, relative(paths.directory, path));
  const overlay = (path: string, sizeBytes: number, base: DiskBase | null | undefined) =>
    writeOverlay(context, inside(path), { sizeBytes, layer: base ?? null, uid, signal: work.signal });
  if (disk !== null) await overlay(paths.disk, disk.sizeBytes, disk.base);
  for (const [index, data] of dataDisks.entries()) {
    await overlay(paths.dataDisk(index), data.sizeBytes, data.base);
  }
  const of = origin ?? machinePaths(context.home, source.name).directory;
  for (const [path, wanted, mode] of [
    [paths.seed, file.seeded, 0o400],
    [paths.efiVars, file.firmware === "uefi", 0o600],
  ] as const) {
    const among = join(of, relative(paths.directory, path));
    const from = path === paths.efiVars ? (efiVars ?? among) : among;
    if (!wanted || !(await exists(from))) continue;
    await copyFile(from, inside(path));
    await giveTo(uid, inside(path), mode);
  }
  const known = hostKeys.map((key) => `${name}.skep ${key}\n`).join("");
  await writeFile(inside(paths.knownHosts), known, { mode: 0o600 });
  if (mark === undefined) await writeFile(inside(paths.forking), "");
  else await link(mark, inside(paths.forking));
  await writeMachineFile(inside(paths.file), file);
  work.signal.throwIfAborted();
  await syncDirectory(directory);
  await rename(directory, paths.directory);
  undo.keep();
  const machine = new Machine(context, file);
  machine.setState("starting", "being forked");
  context.machines.set(name, machine);
  return machine;
}

async function writeOverlay(
  { home }: Context,
  path: string,
  options: { sizeBytes: number; layer: DiskBase | null; uid: number | null; signal: AbortSignal },
): Promise<void> {
  const { layer } = options;
  if (layer === null) await createDisk(path, { home, ...options, base: null });
  else await copyOverlay(path, { home, ...options, layer });
}

/** The copy is one of its own now, and stays. Its guest runs. */
export async function finishFork(machine: Machine): Promise<void> {
  const { context, paths, name, file } = machine;
  await syncDirectory(homePaths(context.home).machines);
  await rm(paths.forking);
  await syncDirectory(paths.directory);
  // Paused meanwhile, for want of room on the disk, it goes on by itself.
  if (machine.live !== undefined && machine.state === "starting") machine.setState("running");
  context.emit({ type: "machine.created", subject: name, data: { id: file.id } });
}

/** Begins copies that are made together: the mark that all of them have is one file under many names. */
export async function beginForks({ home }: Context): Promise<string> {
  const mark = join(homePaths(home).machines, `${forksMark}${randomUUID()}`);
  await writeFile(mark, "", { flag: "wx", mode: 0o600 });
  return mark;
}

/** What is written into the mark makes all copies machines of their own at one instant, whoever dies then. */
export async function finishForks(mark: string, copies: readonly Machine[]): Promise<void> {
  await writeFile(mark, "made");
  await syncFile(mark);
  for (const machine of copies) await finishFork(machine);
  await rm(mark);
}

/** Takes back a copy that is not finished, with its QEMU and its volumes. */
export async function abandonFork(machine: Machine): Promise<void> {
  const { context, name, file, live } = machine;
  if (live !== undefined) await endQemu(live);
  const aside = await setForkAside(machine);
  if (aside === undefined) await discard(context, machine.paths.directory, file.id);
  else {
    await discardUnfinished(context, aside).catch((error: unknown) =>
      context.log.warn(
        { machine: name, err: error },
        "cannot remove its volumes: the next start of skepd does",
      ),
    );
  }
  if (context.machines.get(name) === machine) context.machines.delete(name);
  context.hidden.delete(machine);
  context.ssh.drop(name);
}

/**
 * Ends the stray QEMU of a copy that is not finished. One with volumes gets the directory whose removal has them
 * removed before (`discardUnfinished`), which is given back.
 */
export async function setForkAside(machine: Machine): Promise<string | undefined> {
  const { context, file, paths, live } = machine;
  if (live === undefined) await endStray(machine);
  await clearRuntime(machine);
  if (file.volumes.length === 0) return undefined;
  const aside = join(homePaths(context.home).machines, `.new-${file.id}`);
  await writeUnfinished(paths.directory, file);
  await rename(paths.directory, aside);
  return aside;
}

/** A QEMU that nobody is connected to, as after skepd was killed. */
export async function endStray(machine: Machine): Promise<void> {
  const process = findProcess(machine.file, machine.runtime.pid);
  if (process === undefined) return;
  signalProcess(process, "SIGKILL");
  await waitGone(process, endLimitMs);
}

/** A copy that an earlier skepd has not finished; undefined where the machine is none. */
export async function unfinishedFork(context: Context, name: string): Promise<Machine | undefined> {
  const paths = machinePaths(context.home, name);
  const mark = await readFileIfThere(paths.forking);
  if (mark === undefined) return undefined;
  if (mark !== "") {
    await rm(paths.forking);
    return undefined;
  }
  try {
    return new Machine(context, await readMachineFile(paths.file, name));
  } catch {
    return undefined; // damaged: it is shown as that, and can be removed
  }
}

/** Keeps layers from being swept until files name them; call what it gives back then. Until now somebody else did. */
export async function holdLayers(
  { held, locks }: Context,
  { disk, dataDisks }: DiskLayers,
): Promise<() => void> {
  const holding = [disk, ...dataDisks].filter((base) => base !== null).map((base) => ({ ...base }));
  // Not while a sweep is under way, which has looked at what is held.
  await locks.run("layers", async () => {
    for (const base of holding) held.add(base);
  });
  return () => {
    for (const base of holding) held.delete(base);
  };
}
