import { access, stat } from "node:fs/promises";
import type { Arch } from "@skep/api/schemas";
import { findCommand, run, SkepError } from "@skep/base";
import { fail } from "./errors.ts";

/** A QEMU program on this host. */
export interface Qemu {
  path: string;
  /** `7.2.22` */
  version: string;
  /** The newest versioned board of the program: `pc-q35-7.2`, `virt-7.2`. */
  machineType: string;
}

const packages: Record<Arch, string> = { x86_64: "qemu-system-x86", aarch64: "qemu-system-arm" };

/** Builds that are known to break; `doctor` warns of them. */
export const badBuilds: readonly { version: RegExp; platform: NodeJS.Platform; why: string }[] = [
  { version: /^11\.0\.0/, platform: "darwin", why: "aborts with HVF and cannot resume saved machines" },
  { version: /^8\.2\.[0-4]$/, platform: "linux", why: "what it suspends, 10.0.3 could not resume" },
];

/** Finds the program for an architecture and asks it once per file (path and mtime). */
export class QemuPrograms {
  #known = new Map<string, Promise<Qemu>>();

  async get(arch: Arch): Promise<Qemu> {
    const name = `qemu-system-${arch}`;
    const path = await findCommand(name);
    if (path === undefined) {
      throw new SkepError("COMMAND_MISSING", `${name} is not installed`, {
        hint: `install it: apt-get install ${packages[arch]}`,
        status: 503,
      });
    }
    const key = `${path}:${(await stat(path)).mtimeMs}`;
    let known = this.#known.get(key);
    if (known === undefined) {
      known = ask(path, arch);
      known.catch(() => this.#known.delete(key));
      this.#known.set(key, known);
    }
    return known;
  }
}

async function ask(path: string, arch: Arch): Promise<Qemu> {
  const [version, boards] = await Promise.all([run(path, ["--version"]), run(path, ["-machine", "help"])]);
  const board = arch === "x86_64" ? /\(alias of (pc-q35-[\d.]+)\)/ : /\(alias of (virt-[\d.]+)\)/;
  return {
    path,
    version: /version ([\d.]+)/.exec(version.stdout)?.[1] ?? "unknown",
    machineType: board.exec(boards.stdout)?.[1] ?? (arch === "x86_64" ? "q35" : "virt"),
  };
}

const firmwareFiles: Record<Arch, readonly { code: string; vars: string }[]> = {
  x86_64: [
    { code: "/usr/share/OVMF/OVMF_CODE_4M.fd", vars: "/usr/share/OVMF/OVMF_VARS_4M.fd" },
    { code: "/usr/share/OVMF/OVMF_CODE.fd", vars: "/usr/share/OVMF/OVMF_VARS.fd" },
    { code: "/usr/share/edk2/ovmf/OVMF_CODE.fd", vars: "/usr/share/edk2/ovmf/OVMF_VARS.fd" },
    { code: "/usr/share/edk2/x64/OVMF_CODE.4m.fd", vars: "/usr/share/edk2/x64/OVMF_VARS.4m.fd" },
    {
      code: "/opt/homebrew/share/qemu/edk2-x86_64-code.fd",
      vars: "/opt/homebrew/share/qemu/edk2-i386-vars.fd",
    },
  ],
  aarch64: [
    { code: "/usr/share/AAVMF/AAVMF_CODE.fd", vars: "/usr/share/AAVMF/AAVMF_VARS.fd" },
    {
      code: "/usr/share/edk2/aarch64/QEMU_EFI-silent-pflash.raw",
      vars: "/usr/share/edk2/aarch64/vars-template-pflash.raw",
    },
    {
      code: "/opt/homebrew/share/qemu/edk2-aarch64-code.fd",
      vars: "/opt/homebrew/share/qemu/edk2-arm-vars.fd",
    },
  ],
};

/** The UEFI code image and the template of its variable store. */
export async function findFirmware(arch: Arch): Promise<{ code: string; vars: string }> {
  for (const files of firmwareFiles[arch]) {
    try {
      await access(files.code);
      await access(files.vars);
      return files;
    } catch {
      // next place
    }
  }
  throw fail("FIRMWARE_MISSING", {
    arch,
    install: `apt-get install ${arch === "x86_64" ? "ovmf" : "qemu-efi-aarch64"}`,
  });
}
