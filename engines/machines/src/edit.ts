import type { MachineEdit } from "@skep/api/schemas";
import { formatSize, type Work } from "@skep/base";
import { checkSettings } from "./check-request.ts";
import { checkDiskSize, growDisk } from "./disk.ts";
import { fail } from "./errors.ts";
import { chooseFreePort } from "./host-ports.ts";
import { livenessCheck, restartPolicy } from "./liveness.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { portOwner } from "./ports.ts";
import { refuseSuspended } from "./suspended.ts";

/** Changes a machine's settings; those of the board need a stopped machine. */
export async function editMachine(machine: Machine, edit: MachineEdit, work: Work): Promise<void> {
  const { file, name, context } = machine;
  const board = ["cpus", "memoryMiB", "diskBytes", "kernelArguments", "telnet"] as const;
  const verbs = {
    cpus: "change the cpus of",
    memoryMiB: "change the memory of",
    diskBytes: "resize the disk of",
    kernelArguments: "change the kernel arguments of",
    telnet: "change the telnet console of",
  };
  const root = file.volumes.find(({ role }) => role === "root");
  if (root !== undefined && edit.diskBytes !== undefined) {
    const size = formatSize(edit.diskBytes).replaceAll(" ", "");
    const hint = `grow the volume: skep vol resize ${root.id} ${size}`;
    throw fail("MACHINE_INVALID", { name, why: `its disk is volume ${root.id}`, hint });
  }
  if (machine.state !== "stopped") {
    const asked = board.find((key) => edit[key] !== undefined);
    if (asked !== undefined) {
      refuseSuspended(machine, verbs[asked]);
      throw fail("MACHINE_RUNNING", { verb: verbs[asked], name });
    }
  }
  checkSettings(name, edit);
  const change: Partial<MachineFile> = {};
  if (edit.cpus !== undefined) change.cpus = edit.cpus;
  if (edit.memoryMiB !== undefined) change.memoryMiB = edit.memoryMiB;
  if (edit.autostart !== undefined) change.autostart = edit.autostart;
  if (edit.restart !== undefined) change.restart = restartPolicy(edit.restart, name);
  if (edit.check !== undefined) change.check = edit.check === null ? null : livenessCheck(edit.check, file);
  if (edit.suspendAfterSeconds !== undefined) change.suspendAfterSeconds = edit.suspendAfterSeconds;
  if (edit.user !== undefined) change.user = edit.user;
  if (edit.kernelArguments !== undefined) change.kernelArguments = edit.kernelArguments;
  if (edit.telnet !== undefined) {
    const owner = portOwner(context);
    change.telnetPort = edit.telnet
      ? (file.telnetPort ??
        (await chooseFreePort("127.0.0.1", "tcp", (port) => owner(port, "tcp") !== undefined)))
      : null;
  }
  if (edit.diskBytes !== undefined) change.disk = await grow(machine, edit.diskBytes, work);
  await machine.save(change);
}

async function grow(machine: Machine, wanted: number, work: Work): Promise<MachineFile["disk"]> {
  const { file, name, context, paths } = machine;
  if (file.disk === null) {
    throw fail("MACHINE_INVALID", {
      name,
      why: "it has no disk",
      hint: "make one from an image with a disk",
    });
  }
  const sizeBytes = Math.ceil(wanted / 512) * 512;
  if (sizeBytes < file.disk.sizeBytes) {
    throw fail("DISK_TOO_SMALL", {
      size: formatSize(sizeBytes),
      what: `the disk of ${name} (a disk only grows)`,
      minimum: formatSize(file.disk.sizeBytes),
    });
  }
  await checkDiskSize(context.home, sizeBytes);
  await growDisk(paths.disk, { sizeBytes, uid: file.uid, signal: work.signal });
  return { ...file.disk, sizeBytes };
}
