import { hash } from "node:crypto";
import { relative } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { formatSize } from "@skep/base";
import { type Machine, plannedStart } from "@skep/machines";
import { devicesOf } from "./compat.ts";
import { canonicalJson } from "./shape.ts";

/** What a machine and a template must have in common; some of it in words. */
export interface TemplateShape {
  image: { name: string; digest: string };
  arch: Arch;
  cpus: number;
  memoryMiB: number;
  /** 0: no disk. */
  diskBytes: number;
  qemu: string;
  /** sha256 of all of it: image, disk, kernel, board, devices, QEMU and accelerator. */
  key: string;
}

/** Why no template can stand for the first boot of a machine, whatever templates there are; undefined: one could. */
export async function bootsAnyway({ file, context }: Machine): Promise<string | undefined> {
  const { image, disk, firmware, dataDisks, volumes, kernelArguments, cdrom } = file;
  if (process.platform !== "linux") return "its memory would be in no file on this system";
  if (image === null || cdrom !== null) return "it is made of no image";
  if (firmware === "uefi") return "it boots with UEFI";
  if (kernelArguments !== "") return "it has kernel arguments of its own";
  if (dataDisks.length > 0) return "it has data disks";
  if (volumes.length > 0) return "it has volumes";
  if (disk === null) return undefined;
  const stored = await context.images.get(image.digest, file.arch);
  const own = stored.disk === null ? undefined : relative(context.home, stored.disk.path);
  return disk.base?.path === own ? undefined : "its disk does not stand on its image alone";
}

/** Of a machine without QEMU that is made of an image. */
export async function shapeOf(machine: Machine, signal: AbortSignal): Promise<TemplateShape> {
  const { arch, cpus, memoryMiB, machineType, image, disk, boot, seeded } = machine.file;
  const { qemuVersion: qemu, accelerator, argv } = await plannedStart(machine, signal);
  const { name, digest } = image as NonNullable<typeof image>;
  const diskBytes = disk?.sizeBytes ?? 0;
  const cpu = argv[argv.indexOf("-cpu") + 1] ?? "";
  const what = { digest, diskBytes, boot, seeded, arch, machineType, qemu, accelerator, cpu };
  const devices = devicesOf(argv).argv;
  const key = hash("sha256", canonicalJson({ ...what, devices }), "hex");
  return { image: { name, digest }, arch, cpus, memoryMiB, diskBytes, qemu, key };
}

/** For people: `debian-12 with 2 CPUs, 2 GiB of memory and a disk of 10 GiB`. */
export function shapeText({
  image,
  cpus,
  memoryMiB,
  diskBytes,
}: Pick<TemplateShape, "image" | "cpus" | "memoryMiB" | "diskBytes">): string {
  const disk = diskBytes === 0 ? "" : ` and a disk of ${formatSize(diskBytes)}`;
  const memory = formatSize(memoryMiB * 1024 ** 2);
  return `${image.name} with ${cpus} CPU${cpus === 1 ? "" : "s"}, ${memory} of memory${disk}`;
}
