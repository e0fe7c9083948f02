import { stat } from "node:fs/promises";
import { relative } from "node:path";
import type { MachineRequest, PortRequest } from "@skep/api/schemas";
import { formatSize, type Work } from "@skep/base";
import type { StoredImage } from "@skep/images";
import { nativeArch } from "./accelerator.ts";
import { allFiles, type Context } from "./context.ts";
import { checkDiskSize, type DiskBase } from "./disk.ts";
import { fail } from "./errors.ts";
import { chooseFreePort, settlePorts } from "./host-ports.ts";
import { allocateUid } from "./host-user.ts";
import { livenessCheck, noRestart, restartPolicy } from "./liveness.ts";
import type { Machine } from "./machine.ts";
import { type MachineFile, newIdentity, type VolumeOfMachine } from "./machine-file.ts";
import type { RootDisk } from "./own-volumes.ts";
import { portOwner } from "./ports.ts";
import { findFirmware } from "./qemu.ts";
import { shareRootDisk } from "./share-disk.ts";

const gib = 1024 ** 3;
export const defaults = { cpus: 2, memoryMiB: 2048, diskBytes: 10 * gib, tinyMemoryMiB: 256 };

/** What the new machine stands on: an image, another machine's disk, or nothing (an ISO). */
export interface Base {
  image: StoredImage | undefined;
  from: Machine | undefined;
  disk: (DiskBase & { virtualBytes: number }) | null;
}

export async function resolveBase(context: Context, request: MachineRequest, work: Work): Promise<Base> {
  if (request.from !== undefined) {
    const from = context.machines.get(request.from);
    if (from === undefined) throw fail("MACHINE_NOT_FOUND", { name: request.from });
    const volumes = from.file.volumes.map(({ id }) => id);
    if (volumes.length > 0) work.note(`the volumes of ${from.name} are not copied: ${volumes.join(", ")}`);
    // Not while layers are swept: a new one belongs to nobody until the machine's file names it.
    const disk = await context.locks.run("layers", () => shareRootDisk(from));
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

export async function composeFile(
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
  const taken = new Set(allFiles(context).map((file) => file.uid));
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
  const ports = await portsOf(context, request, ssh);
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
    ports,
    user: request.user ?? image?.user ?? from?.file.user ?? "root",
    ssh,
    seeded: bootable && request.cdrom === undefined,
    autostart: request.autostart ?? false,
    restart: request.restart === undefined ? noRestart : restartPolicy(request.restart, name),
    check: request.check === undefined ? null : livenessCheck(request.check, { name, ports }),
    suspendAfterSeconds: request.suspendAfterSeconds ?? null,
    telnetPort:
      request.telnet === true
        ? await chooseFreePort("127.0.0.1", "tcp", (port) => portOwner(context)(port, "tcp") !== undefined)
        : null,
    suspended: null,
    ...(image !== undefined && !onVolume && request.cold !== true ? { fresh: true as const } : {}),
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
