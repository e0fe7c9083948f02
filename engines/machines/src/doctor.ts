import { statfs } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import type { Check } from "@skep/api/schemas";
import { findCommand, formatSize } from "@skep/base";
import { knownAccelerator, nativeArch } from "./accelerator.ts";
import type { Context } from "./context.ts";
import { isFree } from "./host-ports.ts";
import { checkPassable, isRoot } from "./host-user.ts";
import { homePaths, runtimePaths, socketPathLimit } from "./paths.ts";
import { badBuilds, findFirmware, type Qemu } from "./qemu.ts";

const gib = 1024 ** 3;

/** Everything about this host that decides whether machines run well. Runs nothing heavy. */
export async function diagnose(context: Context): Promise<Check[]> {
  const checks: Check[] = [];
  const qemu = await context.programs.get(nativeArch).catch(() => undefined);
  checks.push(...qemuChecks(qemu), await acceleratorCheck(context, qemu));
  checks.push(...(await toolChecks()));
  checks.push(await diskCheck(context.home), ...(await memoryChecks()));
  checks.push(socketCheck(context.runtime));
  if (isRoot) checks.push(await passCheck(context.home));
  checks.push(...(await portChecks(context)));
  return checks;
}

function check(name: string, status: Check["status"], detail: string, fix: string | null = null): Check {
  return { name, status, detail, fix };
}

function qemuChecks(qemu: Qemu | undefined): Check[] {
  if (qemu === undefined) {
    const name = nativeArch === "x86_64" ? "qemu-system-x86" : "qemu-system-arm";
    return [check("qemu", "failed", `qemu-system-${nativeArch} is not installed`, `apt-get install ${name}`)];
  }
  const bad = badBuilds.find(
    ({ version, platform }) => version.test(qemu.version) && platform === process.platform,
  );
  const detail = `${qemu.version} (${qemu.path}, board ${qemu.machineType})`;
  if (bad !== undefined)
    return [check("qemu", "warning", `${detail}: this build ${bad.why}`, "use another version of QEMU")];
  const [major = 0, minor = 0] = qemu.version.split(".").map(Number);
  if (major < 7 || (major === 7 && minor < 2)) {
    return [
      check("qemu", "warning", `${detail}: older than 7.2, on which skep is tested`, "use QEMU 7.2 or newer"),
    ];
  }
  return [check("qemu", "ok", detail)];
}

async function acceleratorCheck(context: Context, qemu: Qemu | undefined): Promise<Check> {
  if (qemu === undefined) return check("accelerator", "failed", "unknown without QEMU");
  if (process.platform === "darwin") return check("accelerator", "ok", "hvf");
  const known = await knownAccelerator(homePaths(context.home).accelerator, qemu);
  if (known === undefined)
    return check("accelerator", "ok", "not probed yet; the first start of a machine does it");
  if (known.accelerator !== "tcg") return check("accelerator", "ok", `${known.accelerator}: ${known.detail}`);
  const fix = known.detail.includes("group kvm") ? "sudo usermod -aG kvm $USER, then log in again" : null;
  return check("accelerator", "warning", `tcg (emulation, slow): ${known.detail}`, fix);
}

const tools: readonly { program: string; package: string; why: string; required: boolean }[] = [
  { program: "qemu-img", package: "qemu-utils", why: "disks", required: true },
  { program: "xorriso", package: "xorriso", why: "cloud-init seeds", required: true },
  { program: "ssh-keygen", package: "openssh-client", why: "the installation's key", required: true },
  { program: "mmdebstrap", package: "mmdebstrap", why: "image build", required: false },
  { program: "mke2fs", package: "e2fsprogs", why: "image build", required: false },
  { program: "xz", package: "xz-utils", why: "compressed images", required: false },
];

async function toolChecks(): Promise<Check[]> {
  const missing: Check[] = [];
  for (const { program, package: name, why, required } of tools) {
    if ((await findCommand(program)) !== undefined) continue;
    const status = required ? "failed" : "warning";
    missing.push(check(program, status, `not installed; needed for ${why}`, `apt-get install ${name}`));
  }
  if (isRoot && (await findCommand("setpriv")) === undefined) {
    missing.push(
      check(
        "setpriv",
        "failed",
        "not installed; needed to run QEMU as its own user",
        "apt-get install util-linux",
      ),
    );
  }
  const uefi = await findFirmware(nativeArch).catch(() => undefined);
  if (uefi === undefined) {
    const name = nativeArch === "x86_64" ? "ovmf" : "qemu-efi-aarch64";
    const status = nativeArch === "x86_64" ? "ok" : "failed";
    missing.push(
      check("uefi firmware", status, `not installed; needed for --uefi`, `apt-get install ${name}`),
    );
  }
  const programs = tools.map(({ program }) => program).join(", ");
  return missing.some(({ status }) => status !== "ok")
    ? missing
    : [check("tools", "ok", programs), ...missing];
}

async function diskCheck(home: string): Promise<Check> {
  const { bavail, bsize, blocks } = await statfs(home);
  const free = bavail * bsize;
  const detail = `${formatSize(free)} free of ${formatSize(blocks * bsize)} in ${home}`;
  if (free < gib) return check("disk", "failed", detail, "free some space: skep image prune");
  return check("disk", free < 5 * gib ? "warning" : "ok", detail);
}

async function memoryChecks(): Promise<Check[]> {
  const memory = check(
    "memory",
    freemem() < gib ? "warning" : "ok",
    `${formatSize(freemem())} free of ${formatSize(totalmem())}`,
  );
  if (process.platform !== "linux") return [memory];
  const { bavail, bsize, blocks } = await statfs("/dev/shm");
  const total = blocks * bsize;
  const small = total < 2 * gib;
  const detail = `${formatSize(bavail * bsize)} free of ${formatSize(total)} for guest memory`;
  return [
    memory,
    check("/dev/shm", small ? "warning" : "ok", detail, small ? "mount -o remount,size=8G /dev/shm" : null),
  ];
}

function socketCheck(runtime: string): Check {
  const longest = runtimePaths(runtime, "00000000-0000-0000-0000-000000000000").control;
  const detail = `${longest.length} of ${socketPathLimit} characters (${runtime})`;
  return longest.length > socketPathLimit
    ? check("socket path", "failed", detail, "set SKEP_RUNTIME_DIR to a shorter directory")
    : check("socket path", "ok", detail);
}

async function passCheck(home: string): Promise<Check> {
  try {
    await checkPassable(home);
    return check("qemu user", "ok", `QEMU's own users reach ${home}`);
  } catch (error) {
    return check(
      "qemu user",
      "failed",
      (error as Error).message,
      "set SKEP_HOME to a directory that others may pass",
    );
  }
}

async function portChecks(context: Context): Promise<Check[]> {
  const conflicts: string[] = [];
  for (const machine of context.machines.values()) {
    if (machine.live !== undefined) continue;
    for (const port of machine.file.ports.filter(({ automatic }) => !automatic)) {
      if (!(await isFree(port.hostAddress, port.hostPort, port.protocol))) {
        conflicts.push(`${port.hostPort}/${port.protocol} of ${machine.name}`);
      }
    }
  }
  if (conflicts.length === 0) return [check("ports", "ok", "no published port is taken by another program")];
  return [
    check(
      "ports",
      "warning",
      `taken by other programs: ${conflicts.join(", ")}`,
      "skep port rm NAME PORT, or end that program",
    ),
  ];
}
