import { spawn } from "node:child_process";
import { access, constants, readdir } from "node:fs/promises";
import { arch as hostArch } from "node:os";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { bootId, isErrno, readVersionedJson, writeVersionedJson } from "@skep/base";
import type { Accelerator } from "./argv.ts";
import { allocateUid, asUser, kvmGroup } from "./host-user.ts";
import type { Qemu } from "./qemu.ts";

/** What the probe found; kept in `accelerator.json` per boot of the host and version of QEMU. */
export interface AcceleratorVerdict {
  version: 1;
  bootId: string;
  qemuVersion: string;
  accelerator: Accelerator;
  /** Why, for `skep doctor`. */
  detail: string;
}

export const nativeArch: Arch = hostArch() === "arm64" ? "aarch64" : "x86_64";

/**
 * The accelerator for guests of `arch`. KVM counts only after a guest kernel has booted with it:
 * there are hosts where /dev/kvm opens and no stock kernel runs.
 */
export async function chooseAccelerator(options: {
  arch: Arch;
  qemu: Qemu;
  cache: string;
  /** A kernel to boot in the probe; without one the host's own, or none. */
  kernel: string | null;
  signal?: AbortSignal;
}): Promise<AcceleratorVerdict> {
  const { arch, qemu, cache } = options;
  const verdict = (accelerator: Accelerator, detail: string): AcceleratorVerdict => ({
    version: 1,
    bootId: bootId(),
    qemuVersion: qemu.version,
    accelerator,
    detail,
  });
  if (arch !== nativeArch) return verdict("tcg", `${arch} is emulated on ${nativeArch}`);
  if (process.platform === "darwin") return verdict("hvf", "macOS");
  const known = await knownAccelerator(cache, qemu);
  if (known !== undefined) return known;
  const found = await probeKvm(options, verdict);
  // Without a kernel to boot nothing was proven, so the next start asks again.
  if (found.proven) await writeVersionedJson(cache, found.verdict);
  return found.verdict;
}

/** Looked at each time, for whoever joins the group or loads the module does it without a reboot. */
async function whyNoKvm(): Promise<string | undefined> {
  try {
    await access("/dev/kvm", constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return isErrno(error, "EACCES")
      ? "/dev/kvm may not be opened: join the group kvm (sudo usermod -aG kvm $USER)"
      : "/dev/kvm is not there";
  }
}

/** What is known without a probe: for `doctor`, which must not take seconds. */
export async function knownAccelerator(cache: string, qemu: Qemu): Promise<AcceleratorVerdict | undefined> {
  const why = process.platform === "linux" ? await whyNoKvm() : undefined;
  if (why !== undefined) {
    return { version: 1, bootId: bootId(), qemuVersion: qemu.version, accelerator: "tcg", detail: why };
  }
  const known = await readVersionedJson<AcceleratorVerdict>(cache, 1).catch(() => undefined);
  return known?.bootId === bootId() && known.qemuVersion === qemu.version ? known : undefined;
}

async function probeKvm(
  { qemu, kernel, signal, arch }: Parameters<typeof chooseAccelerator>[0],
  verdict: (accelerator: Accelerator, detail: string) => AcceleratorVerdict,
): Promise<{ verdict: AcceleratorVerdict; proven: boolean }> {
  const guest = kernel ?? (await hostKernel());
  if (guest === undefined)
    return { verdict: verdict("tcg", "no kernel at hand to try KVM with"), proven: false };
  const outcome = await bootOnce(qemu, arch, guest, signal);
  return outcome.booted
    ? { verdict: verdict("kvm", "a guest kernel booted"), proven: true }
    : { verdict: verdict("tcg", `/dev/kvm opens, but no guest kernel boots: ${outcome.why}`), proven: true };
}

async function hostKernel(): Promise<string | undefined> {
  const names = await readdir("/boot").catch(() => []);
  for (const name of names.filter((entry) => entry.startsWith("vmlinuz")).reverse()) {
    try {
      await access(join("/boot", name), constants.R_OK);
      return join("/boot", name);
    } catch {
      // some distributions let only root read it
    }
  }
  return undefined;
}

/**
 * Boots a kernel without a root file system: it prints, panics and resets, and `-no-reboot` ends
 * QEMU. A healthy KVM takes a second; the first output must come within five.
 */
async function bootOnce(
  qemu: Qemu,
  arch: Arch,
  kernel: string,
  signal: AbortSignal | undefined,
): Promise<{ booted: boolean; why: string }> {
  const serial = arch === "x86_64" ? "ttyS0" : "ttyAMA0";
  const [program, ...args] = asUser(allocateUid(new Set()), await kvmGroup(), [
    qemu.path,
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", qemu.machineType],
    ...["-accel", "kvm", "-cpu", "host", "-m", "256M", "-kernel", kernel, "-serial", "stdio"],
    ...["-append", `console=${serial} earlycon panic=-1`],
  ]) as [string, ...string[]];
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], cwd: "/" });
  const ended = new Promise<void>((resolve, reject) => {
    child.once("close", () => resolve());
    child.once("error", reject);
  });
  ended.catch(() => undefined);
  let output = "";
  let stderr = "";
  const stop = () => child.kill("SIGKILL");
  const silence = setTimeout(stop, 5000);
  const limit = setTimeout(stop, 20_000);
  signal?.addEventListener("abort", stop, { once: true });
  child.stdout.on("data", (data: Buffer) => {
    if (output.length === 0 && data.length > 0) clearTimeout(silence);
    output = (output + data.toString("latin1")).slice(-65_536);
    if (output.includes("Kernel panic - not syncing")) stop();
  });
  child.stderr.on("data", (data: Buffer) => {
    stderr = (stderr + data.toString()).slice(-2048);
  });
  await ended.catch((error: Error) => {
    stderr = error.message;
  });
  clearTimeout(silence);
  clearTimeout(limit);
  signal?.removeEventListener("abort", stop);
  signal?.throwIfAborted();
  if (output.includes("Kernel panic - not syncing")) return { booted: true, why: "" };
  const why =
    stderr
      .trim()
      .split("\n")
      .at(-1)
      ?.replace(/^\S*qemu-system-\S+: /, "") ||
    (output === "" ? "it printed nothing in 5 s" : "it did not finish in 20 s");
  return { booted: false, why };
}
