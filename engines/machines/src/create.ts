import { access, chmod, constants, mkdir, rename, rm, stat } from "node:fs/promises";
import { totalmem } from "node:os";
import { isAbsolute, join, relative } from "node:path";
import type { MachineEdit, MachineRequest, PortRequest } from "@skep/api/schemas";
import { checkName, exists, formatSize, isErrno, syncDirectory, syncFile, Undo, type Work } from "@skep/base";
import type { StoredImage } from "@skep/images";
import { nativeArch } from "./accelerator.ts";
import { checkFree, resolveVolumes } from "./attach.ts";
import type { Context } from "./context.ts";
import { checkDiskSize, createDisk, type DiskBase, finishFreeze, linkLayer } from "./disk.ts";
import { fail } from "./errors.ts";
import { chooseFreePort, settlePorts } from "./host-ports.ts";
import { allocateUid, giveTo, isRoot, letThrough } from "./host-user.ts";
import { checkPublicKey } from "./keys.ts";
import { Machine } from "./machine.ts";
import {
  type MachineFile,
  machineIdOf,
  newIdentity,
  type VolumeOfMachine,
  writeMachineFile,
} from "./machine-file.ts";
import { checkOwnVolumes, discardUnfinished, makeOwnVolumes, type RootDisk } from "./own-volumes.ts";
import { homePaths, machinePaths, ownVolumesFile } from "./paths.ts";
import { portOwner } from "./ports.ts";
import { findFirmware } from "./qemu.ts";
import { checkSeed, writeSeed } from "./seed.ts";
import { refuseSuspended } from "./suspended.ts";

const gib = 1024 ** 3;
export const defaults = { cpus: 2, memoryMiB: 2048, diskBytes: 10 * gib, tinyMemoryMiB: 256 };

/** Leaves nothing behind when it fails: the directory appears under its name only when it is whole. */
export async function createMachine(context: Context, request: MachineRequest, work: Work): Promise<Machine> {
  const name = checkName(request.name);
  const paths = machinePaths(context.home, name);
  if (context.machines.has(name) || (await exists(paths.directory))) throw fail("MACHINE_EXISTS", { name });
  await checkRequest(request);
  const volumes = await resolveVolumes(context, request, work);
  const base = await resolveBase(context, request, work);
  const { file, root } = await context.locks.run("new", async () => {
    for (const { id } of volumes) checkFree(context, id);
    const composed = await composeFile(context, request, base, volumes);
    context.pending.add(composed.file);
    return composed;
  });
  try {
    return await writeMachine(context, file, root, request, work);
  } finally {
    context.pending.delete(file);
  }
}

async function writeMachine(
  context: Context,
  file: MachineFile,
  root: RootDisk | null,
  request: MachineRequest,
  work: Work,
): Promise<Machine> {
  const { name } = file;
  const paths = machinePaths(context.home, name);
  work.signal.throwIfAborted();
  work.report({ phase: `creating ${name}` });
  const keys = await context.ownKeys();
  const sshKeys = (request.sshKeys ?? []).map(checkPublicKey);

  await using undo = new Undo();
  const directory = join(homePaths(context.home).machines, `.new-${file.id}`);
  await mkdir(directory, { mode: 0o700 });
  undo.push(() =>
    // What cannot be removed now is at the next start of skepd.
    discardUnfinished(context, directory).catch((error: unknown) =>
      context.log.warn({ machine: name, err: error }, "cannot remove what was made"),
    ),
  );
  const inside = (path: string) => join(directory, relative(paths.directory, path));
  if (isRoot) await letThrough(file.uid, directory);
  const { uid } = file;
  const { signal } = work;
  const writing: Promise<unknown>[] = file.dataDisks.map(({ sizeBytes }, index) =>
    createDisk(inside(paths.dataDisk(index)), { home: context.home, sizeBytes, base: null, uid, signal }),
  );
  if (file.disk !== null) {
    writing.push(createDisk(inside(paths.disk), { home: context.home, ...file.disk, uid, signal }));
  }
  if (file.seeded) {
    const content = {
      instanceId: file.id,
      hostname: name,
      publicKeys: [...new Set([keys.publicKey, ...sshKeys])],
      env: request.env ?? {},
      machineId: file.from === null ? undefined : machineIdOf(file.id),
      userData: request.userData,
      networkConfig: request.networkConfig,
    };
    writing.push(
      writeSeed(inside(paths.seed), content, signal).then(() => giveTo(uid, inside(paths.seed), 0o400)),
    );
  }
  const results = await Promise.allSettled(writing);
  for (const result of results) if (result.status === "rejected") throw result.reason;
  await makeOwnVolumes(context, file, { directory, root, request, work });
  await writeMachineFile(inside(paths.file), file);
  signal.throwIfAborted();
  if (context.machines.has(name) || (await exists(paths.directory))) throw fail("MACHINE_EXISTS", { name });
  if (file.seeded) await syncFile(inside(paths.seed));
  await syncDirectory(directory);
  await rename(directory, paths.directory);
  await syncDirectory(homePaths(context.home).machines);
  undo.keep();
  await rm(ownVolumesFile(paths.directory), { force: true });
  const machine = new Machine(context, file);
  context.machines.set(name, machine);
  context.emit({ type: "machine.created", subject: name, data: { id: file.id } });
  return machine;
}

async function checkRequest(request: MachineRequest): Promise<void> {
  const { name } = request;
  const sources = [request.image, request.from, request.cdrom].filter((source) => source !== undefined);
  if (sources.length > 1) {
    throw fail("MACHINE_INVALID", {
      name,
      why: "--image, --from and --cdrom exclude one another",
      hint: "give one of them",
    });
  }
  checkOwnVolumes(request);
  checkSeed({ userData: request.userData, networkConfig: request.networkConfig, env: request.env ?? {} });
  for (const key of request.sshKeys ?? []) checkPublicKey(key);
  checkSettings(name, request);
  if (request.cdrom !== undefined) {
    const path = request.cdrom;
    if (!isAbsolute(path)) throw fail("CDROM_MISSING", { path, why: "the path is not absolute" });
    try {
      await access(path, constants.R_OK);
      if (!(await stat(path)).isFile()) throw fail("CDROM_MISSING", { path, why: "it is not a file" });
    } catch (error) {
      if (isErrno(error, "ENOENT") || isErrno(error, "EACCES")) {
        throw fail("CDROM_MISSING", {
          path,
          why: isErrno(error, "ENOENT") ? "it does not exist" : "permission denied",
        });
      }
      throw error;
    }
  }
}

/** What may be set at any time, and ends in QEMU's command line or ssh's configuration. */
export function checkSettings(
  name: string,
  { user, kernelArguments, memoryMiB }: Pick<MachineEdit, "user" | "kernelArguments" | "memoryMiB">,
): void {
  if (kernelArguments !== undefined && /[^\x20-\x7e]/.test(kernelArguments)) {
    throw fail("MACHINE_INVALID", {
      name,
      why: "kernel arguments hold a control character",
      hint: "write them in one line",
    });
  }
  if (user !== undefined && !/^[a-z_][a-z0-9_-]{0,31}$/.test(user)) {
    throw fail("MACHINE_INVALID", {
      name,
      why: `"${user.slice(0, 80)}" is no user name`,
      hint: "give a Linux user name",
    });
  }
  const memoryBytes = (memoryMiB ?? 0) * 1024 ** 2;
  if (memoryBytes > totalmem()) {
    const why = `${formatSize(memoryBytes)} of memory are more than this host has (${formatSize(totalmem())})`;
    throw fail("MACHINE_INVALID", { name, why, hint: "give a smaller --memory" });
  }
}

/** What the new machine stands on: an image, another machine's disk, or nothing (an ISO). */
interface Base {
  image: StoredImage | undefined;
  from: Machine | undefined;
  disk: (DiskBase & { virtualBytes: number }) | null;
}

async function resolveBase(context: Context, request: MachineRequest, work: Work): Promise<Base> {
  if (request.from !== undefined) {
    const from = context.machines.get(request.from);
    if (from === undefined) throw fail("MACHINE_NOT_FOUND", { name: request.from });
    const volumes = from.file.volumes.map(({ id }) => id);
    if (volumes.length > 0) work.note(`the volumes of ${from.name} are not copied: ${volumes.join(", ")}`);
    // Not while layers are swept: a new one belongs to nobody until the machine's file names it.
    const disk = await context.locks.run("layers", () => shareDisk(context, from));
    return { image: undefined, from, disk };
  }
  if (request.cdrom !== undefined) return { image: undefined, from: undefined, disk: null };
  const arch = request.arch ?? nativeArch;
  const image =
    request.image === undefined
      ? await context.images.ensureDefault(arch, work)
      : await context.images.get(request.image, request.arch);
  const disk =
    image.disk === null
      ? null
      : {
          path: relative(context.home, image.disk.path),
          format: image.disk.format,
          virtualBytes: image.disk.virtualBytes,
        };
  return { image, from: undefined, disk };
}

/** Turns a stopped machine's disk into a layer that both machines stand on. */
async function shareDisk(context: Context, from: Machine): Promise<Base["disk"]> {
  const { file, paths } = from;
  refuseSuspended(from, "share the disk of");
  if (from.state !== "stopped") throw fail("BASE_NOT_STOPPED", { name: from.name });
  const root = file.volumes.find(({ role }) => role === "root");
  if (root !== undefined) throw fail("BASE_ON_VOLUME", { name: from.name, id: root.id });
  if (file.disk === null) return null;
  const base = await linkLayer(context.home, paths.disk, {
    base: file.disk.base,
    from: from.name,
    createdAt: new Date().toISOString(),
  });
  const { sizeBytes } = file.disk;
  await from.save({ disk: { sizeBytes, base } });
  await finishFreeze({ home: context.home, disk: paths.disk, sizeBytes, base, uid: file.uid });
  return { ...base, virtualBytes: sizeBytes };
}

async function composeFile(
  context: Context,
  request: MachineRequest,
  base: Base,
  volumes: VolumeOfMachine[],
): Promise<{ file: MachineFile; root: RootDisk | null }> {
  const { name } = request;
  const { image, from } = base;
  const arch = image?.arch ?? from?.file.arch ?? request.arch ?? nativeArch;
  if (request.arch !== undefined && request.arch !== arch) {
    throw fail("MACHINE_INVALID", {
      name,
      why: `its base is for ${arch}, not ${request.arch}`,
      hint: "choose another base",
    });
  }
  const qemu = await context.programs.get(arch);
  const bootable = base.disk !== null || image === undefined;
  const sizeBytes = bootable ? await diskSize(context, request, base) : 0;
  for (const disk of request.dataDisks ?? []) await checkDiskSize(context.home, disk.sizeBytes);
  const firmware = request.firmware ?? from?.file.firmware ?? (arch === "aarch64" ? "uefi" : "bios");
  if (arch === "aarch64" && firmware === "bios") {
    throw fail("MACHINE_INVALID", {
      name,
      why: "aarch64 machines boot with UEFI",
      hint: "leave the firmware out",
    });
  }
  if (firmware === "uefi") await findFirmware(arch);
  const ssh = image?.ssh ?? from?.file.ssh ?? true;
  const files = [...[...context.machines.values()].map((machine) => machine.file), ...context.pending];
  const taken = new Set(files.map((file) => file.uid));
  const uid = allocateUid(taken);
  if (uid !== null && request.cdrom !== undefined) await checkReadable(request.cdrom);
  if (request.efiVolume === true && firmware !== "uefi") {
    const why = "--efi-volume is for machines that boot with UEFI";
    throw fail("MACHINE_INVALID", { name, why, hint: "add --uefi" });
  }
  const disk = bootable
    ? { sizeBytes, base: base.disk === null ? null : { path: base.disk.path, format: base.disk.format } }
    : null;
  const onVolume = request.rootVolume !== undefined;
  if (onVolume && disk === null) {
    const why = `image ${image?.name} has no disk that a root volume could be filled from`;
    throw fail("MACHINE_INVALID", { name, why, hint: "leave --root-volume out" });
  }
  const file: MachineFile = {
    version: 1,
    name,
    ...newIdentity(),
    arch,
    cpus: request.cpus ?? from?.file.cpus ?? defaults.cpus,
    memoryMiB:
      request.memoryMiB ?? from?.file.memoryMiB ?? (bootable ? defaults.memoryMiB : defaults.tinyMemoryMiB),
    firmware,
    machineType: qemu.machineType,
    uid,
    image: image === undefined ? (from?.file.image ?? null) : { name: image.name, digest: image.digest },
    from: from?.name ?? null,
    boot: image === undefined ? (from?.file.boot ?? null) : bootOf(context, image),
    kernelArguments: request.kernelArguments ?? from?.file.kernelArguments ?? "",
    disk: onVolume ? null : disk,
    cdrom: request.cdrom ?? null,
    dataDisks: request.dataDisks ?? [],
    volumes,
    ports: await portsOf(context, request, ssh),
    user: request.user ?? image?.user ?? from?.file.user ?? "root",
    ssh,
    seeded: bootable && request.cdrom === undefined,
    autostart: request.autostart ?? false,
    telnetPort:
      request.telnet === true
        ? await chooseFreePort("127.0.0.1", "tcp", (port) => portOwner(context)(port, "tcp") !== undefined)
        : null,
    suspended: null,
  };
  return { file, root: onVolume ? disk : null };
}

function bootOf(context: Context, image: StoredImage): MachineFile["boot"] {
  if (image.kernel === null) return null;
  return {
    kernel: relative(context.home, image.kernel),
    initramfs: image.initramfs === null ? null : relative(context.home, image.initramfs),
    arguments: image.kernelArguments,
  };
}

async function portsOf(
  context: Context,
  request: MachineRequest,
  ssh: boolean,
): Promise<MachineFile["ports"]> {
  const requests: PortRequest[] = [...(request.ports ?? [])];
  const published = requests.some(
    ({ guestPort, protocol }) => guestPort === 22 && (protocol ?? "tcp") === "tcp",
  );
  if (ssh && !published) requests.unshift({ hostPort: 0, guestPort: 22 });
  return await settlePorts(requests, portOwner(context));
}

async function diskSize(context: Context, request: MachineRequest, base: Base): Promise<number> {
  const minimum = base.disk?.virtualBytes ?? 0;
  const wanted = request.diskBytes ?? request.rootVolume?.sizeBytes;
  const sizeBytes = wanted ?? Math.max(minimum, base.from?.file.disk?.sizeBytes ?? defaults.diskBytes);
  if (sizeBytes < minimum) {
    const what = base.from === undefined ? `image ${base.image?.name}` : `the disk of ${base.from.name}`;
    throw fail("DISK_TOO_SMALL", { size: formatSize(sizeBytes), what, minimum: formatSize(minimum) });
  }
  if (wanted !== undefined && request.rootVolume === undefined) await checkDiskSize(context.home, sizeBytes);
  return Math.ceil(sizeBytes / 512) * 512;
}

/** QEMU opens an ISO as the machine's own user. */
async function checkReadable(path: string): Promise<void> {
  if (((await stat(path)).mode & 0o004) === 0) {
    throw fail("CDROM_MISSING", {
      path,
      why: "QEMU runs as its own user, which may not read it (chmod o+r)",
    });
  }
}

/**
 * Makes the directories of a home; QEMU's users pass through, nobody else sees inside. A home that is
 * there already, which may be anything (`/srv`), is only opened as far as QEMU needs it.
 */
export async function prepareHome(home: string): Promise<void> {
  const { machines, layers } = homePaths(home);
  const mode = isRoot ? 0o711 : 0o700;
  await mkdir(home, { recursive: true, mode });
  if (isRoot) await chmod(home, ((await stat(home)).mode & 0o7777) | 0o111);
  for (const directory of [machines, layers]) {
    await mkdir(directory, { recursive: true, mode });
    await chmod(directory, mode);
  }
}
