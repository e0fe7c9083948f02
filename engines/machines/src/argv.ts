import { join } from "node:path";
import { baseNode, diskDevice, diskName, diskNode } from "./disk-node.ts";
import { type MachineFile, machineIdOf, type ServedVolumes, spareSlots } from "./machine-file.ts";
import type { machinePaths, RuntimePaths } from "./paths.ts";
import { portId, volumeDevice, volumeNode } from "./volume-device.ts";

export type Accelerator = "kvm" | "hvf" | "tcg";

/** What the host adds to a machine's file to make the command line. */
export interface ArgvContext {
  /** Absolute path of qemu-system-<arch>. */
  qemu: string;
  accelerator: Accelerator;
  home: string;
  paths: ReturnType<typeof machinePaths>;
  runtime: RuntimePaths;
  /** UEFI code image; null with BIOS. */
  firmwareCode: string | null;
  served: ServedVolumes;
  /**
   * The file of the guest's memory. Own memory is shared with the file, so that it can be saved without a copy through
   * QEMU; borrowed memory is not: what the guest writes stays its own, and the file as it is.
   */
  memory: { path: string; share: boolean };
  /** Whether there is a port for the guest's helper: a saved machine has it if it had it before. */
  helper: boolean;
}

// Slots on the root complex; what may be plugged in later uses the root ports at 0x18. Linux names disks
// in this order, so the seed stands behind the data disks: the first of them is /dev/vdb.
const slot = {
  display: "0x1",
  network: "0x2",
  serial: "0x3",
  rng: "0x4",
  root: "0x5",
  scsi: "0x16",
  seed: "0x17",
  panic: "0x1e",
};
const firstDataSlot = 0x6;
const portsSlot = 0x18;

/** QEMU's option parser splits at commas; a doubled one stands for itself. */
function escapeCommas(value: string): string {
  return value.replaceAll(",", ",,");
}

function json(value: unknown): string {
  return JSON.stringify(value);
}

/** The whole command line of a machine: same file, same host, same line. */
export function qemuArguments(file: MachineFile, context: ArgvContext): string[] {
  return [
    context.qemu,
    ...identity(file),
    ...board(file, context),
    ...memory(file, context),
    ...boot(file, context),
    ...sockets(file, context),
    ...devices(file, context),
    ...disks(file, context),
    ...network(file),
    ...sparePorts(),
    ...volumes(file, context),
  ];
}

function identity(file: MachineFile): string[] {
  return [
    ...["-name", `guest=${file.name},debug-threads=on`, "-uuid", file.id],
    ...["-nodefaults", "-no-user-config"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-msg", "timestamp=on"],
  ];
}

/**
 * MiB of translated code that QEMU keeps under TCG. Of the many copies of one machine each has its own: half of the
 * default's memory after some work, at the same speed; less than that halves the speed.
 */
const translated = { own: 256, borrowed: 64 };

function board(file: MachineFile, { accelerator, memory }: ArgvContext): string[] {
  const native = accelerator !== "tcg";
  const variables = file.volumes.find(({ role }) => role === "efi");
  const flash = variables === undefined ? "" : `,pflash1=${variables.id}`;
  const tbSize = memory.share ? translated.own : translated.borrowed;
  const accel = native ? accelerator : `tcg,thread=multi,tb-size=${tbSize}`;
  if (file.arch === "x86_64") {
    return [
      ...["-machine", `${file.machineType},memory-backend=ram,vmport=off${flash}`],
      ...["-accel", accel, "-cpu", native ? "host" : "max", "-smp", String(file.cpus)],
    ];
  }
  const gic = accelerator === "kvm" ? "host" : "3";
  return [
    ...["-machine", `${file.machineType},memory-backend=ram,gic-version=${gic}${flash}`],
    ...["-accel", accel, "-cpu", native ? "host" : "max,pauth-impdef=on", "-smp", String(file.cpus)],
  ];
}

function memory(file: MachineFile, { memory: { path, share } }: ArgvContext): string[] {
  const size = `${file.memoryMiB}M`;
  const backend =
    process.platform === "linux"
      ? `memory-backend-file,id=ram,size=${size},mem-path=${path},share=${share ? "on" : "off"}`
      : `memory-backend-ram,id=ram,size=${size}`;
  return ["-m", size, "-object", backend, "-rtc", "base=utc"];
}

function boot(file: MachineFile, { home, firmwareCode, paths }: ArgvContext): string[] {
  const arguments_: string[] = [];
  if (firmwareCode !== null) {
    const drive = (unit: string, path: string) => ["-drive", `if=pflash,${unit},file=${escapeCommas(path)}`];
    arguments_.push(...drive("unit=0,format=raw,readonly=on", firmwareCode));
    const local = file.volumes.every(({ role }) => role !== "efi");
    if (local) arguments_.push(...drive("unit=1,format=raw", paths.efiVars));
  }
  if (file.boot === null) return arguments_;
  const serial = file.arch === "x86_64" ? "ttyS0" : "ttyAMA0";
  const append = [file.boot.arguments, `console=tty0 console=${serial},115200`, file.kernelArguments];
  // Systemd takes it before the id on the disk, which a copy shares with its original.
  append.push(file.seeded ? `systemd.machine_id=${machineIdOf(file.id)}` : `skep.hostname=${file.name}`);
  arguments_.push("-kernel", join(home, file.boot.kernel));
  if (file.boot.initramfs !== null) arguments_.push("-initrd", join(home, file.boot.initramfs));
  return [...arguments_, "-append", append.filter((part) => part !== "").join(" ")];
}

function sockets(_file: MachineFile, { runtime, paths, helper }: ArgvContext): string[] {
  const server = (id: string, path: string, more = "") =>
    `socket,id=${id},path=${escapeCommas(path)},server=on,wait=off${more}`;
  const log = `,logfile=${escapeCommas(paths.consoleLog)},logappend=on`;
  return [
    ...["-pidfile", runtime.pid],
    ...["-chardev", server("qmp", runtime.qmp), "-mon", "chardev=qmp,mode=control"],
    ...["-chardev", server("control", runtime.control), "-mon", "chardev=control,mode=readline"],
    ...["-chardev", server("console", runtime.serial, log), "-serial", "chardev:console"],
    ...["-chardev", server("agent", runtime.agent)],
    ...(helper ? ["-chardev", server("helper", runtime.helper)] : []),
  ];
}

function devices(file: MachineFile, { helper }: ArgvContext): string[] {
  const port = (id: string, name: string) =>
    `virtserialport,bus=serial.0,chardev=${id},id=${id},name=${name}`;
  const x86 = file.arch === "x86_64";
  return [
    ...["-display", "none", "-vga", "none"],
    ...[
      "-device",
      x86
        ? `VGA,id=display,vgamem_mb=4,addr=${slot.display}`
        : `virtio-gpu-pci,id=display,addr=${slot.display}`,
    ],
    ...["-device", `virtio-serial-pci,id=serial,addr=${slot.serial}`],
    ...["-device", port("agent", "org.qemu.guest_agent.0")],
    ...(helper ? ["-device", port("helper", "org.skep.helper.0")] : []),
    ...["-object", "rng-random,id=rng,filename=/dev/urandom"],
    ...["-device", `virtio-rng-pci,rng=rng,addr=${slot.rng}`],
    ...["-device", x86 ? "pvpanic" : `pvpanic-pci,addr=${slot.panic}`],
    ...(x86 ? ["-device", `vmgenid,guid=${file.generation}`] : []),
  ];
}

function disks(file: MachineFile, { home, paths }: ArgvContext): string[] {
  const arguments_: string[] = [];
  const add = (node: object, device: string) => arguments_.push("-blockdev", json(node), "-device", device);
  // A kernel given by hand has the first place for itself.
  const order = (index: number) => (file.boot === null ? `,bootindex=${index}` : "");
  if (file.disk !== null) {
    add(
      diskNode(diskName(null), paths.disk, baseNode(home, file.disk.base)),
      `virtio-blk-pci,drive=root,id=${diskDevice(null)},serial=root,addr=${slot.root}${order(1)}`,
    );
  }
  if (file.seeded) {
    add(
      {
        driver: "raw",
        "node-name": "seed",
        "read-only": true,
        file: { driver: "file", filename: paths.seed },
      },
      `virtio-blk-pci,drive=seed,id=disk-seed,serial=seed,addr=${slot.seed}`,
    );
  }
  if (file.cdrom !== null) {
    const arm = file.arch === "aarch64";
    if (arm) arguments_.push("-device", `virtio-scsi-pci,id=scsi,addr=${slot.scsi}`);
    add(
      {
        driver: "raw",
        "node-name": "cdrom",
        "read-only": true,
        file: { driver: "file", filename: file.cdrom },
      },
      `${arm ? "scsi-cd,bus=scsi.0" : "ide-cd,bus=ide.0"},drive=cdrom,id=disk-cdrom${order(2)}`,
    );
  }
  file.dataDisks.forEach(({ base }, index) => {
    const name = diskName(index);
    const address = `0x${(firstDataSlot + index).toString(16)}`;
    add(
      diskNode(name, paths.dataDisk(index), baseNode(home, base)),
      `virtio-blk-pci,drive=${name},id=${diskDevice(index)},serial=${name},addr=${address}`,
    );
  });
  return arguments_;
}

function network(file: MachineFile): string[] {
  const forwards = file.ports
    .filter((port) => port.hostPort !== 0)
    .map((port) => `,hostfwd=${port.protocol}:${port.hostAddress}:${port.hostPort}-:${port.guestPort}`)
    .join("");
  // A seeded guest has its name already, and would only refuse this one after some work.
  const hostname = file.seeded ? "" : `,hostname=${file.name}`;
  return [
    ...["-netdev", `user,id=net${hostname}${forwards}`],
    // No option ROM: network boot is not offered, and the ROM's size would enter saved states.
    ...["-device", `virtio-net-pci,netdev=net,id=network,mac=${file.mac},addr=${slot.network},romfile=`],
  ];
}

/** Only root ports that exist at start can take a disk later. */
function sparePorts(): string[] {
  return Array.from({ length: spareSlots }, (_, index) => {
    const many = index === 0 ? ",multifunction=on" : "";
    const address = `0x${portsSlot.toString(16)}.${index}`;
    return [
      "-device",
      `pcie-root-port,id=${portId(index)},chassis=${index + 1},slot=${index + 1},addr=${address}${many}`,
    ];
  }).flat();
}

/** The root volume has the place of a local root disk; data volumes sit where they were plugged in. */
function volumes(file: MachineFile, { served }: ArgvContext): string[] {
  return file.volumes.flatMap((volume) => {
    const node = ["-blockdev", json(volumeNode(volume, served[volume.id] ?? null))];
    if (volume.role === "efi") return node;
    const place = volume.slot === null ? { addr: slot.root } : { bus: portId(volume.slot) };
    const bootindex = volume.role === "root" && file.boot === null ? { bootindex: 1 } : {};
    const { driver, ...properties } = { ...volumeDevice(volume, place), ...bootindex };
    const words = Object.entries(properties).map(([key, value]) => `${key}=${value}`);
    return [...node, "-device", [driver, ...words].join(",")];
  });
}
