import { existsSync, readFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { findCommand, run, type Work } from "@skep/base";
import { fail } from "./errors.ts";

// The Debian package that holds each command.
const packageOf: Record<string, string> = {
  mmdebstrap: "mmdebstrap",
  unshare: "util-linux",
  tar: "tar",
  mke2fs: "e2fsprogs",
  dumpe2fs: "e2fsprogs",
  debugfs: "e2fsprogs",
  newuidmap: "uidmap",
  xz: "xz-utils",
  "qemu-img": "qemu-utils",
};

export const hostArch: Arch = process.arch === "arm64" ? "aarch64" : "x86_64";

export async function needCommands(commands: readonly string[]): Promise<void> {
  const missing: string[] = [];
  for (const command of commands) if ((await findCommand(command)) === undefined) missing.push(command);
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((command) => packageOf[command] ?? command))];
  throw fail("BUILD_TOOL_MISSING", {
    tools: `${missing.join(", ")} ${missing.length === 1 ? "is" : "are"}`,
    packages: packages.join(" "),
  });
}

/** Says before a build starts what this host lacks for it. */
export async function checkBuildHost(kind: "disk" | "initramfs", arch: Arch, work: Work): Promise<void> {
  const tools = ["mmdebstrap", "unshare", "tar"];
  const plainUser = userInfo().uid !== 0;
  if (kind === "disk") tools.push("mke2fs", "dumpe2fs", "debugfs");
  if (plainUser) tools.push("newuidmap");
  await needCommands(tools);
  if (plainUser) await checkNamespaces();
  if (kind === "disk" && arch !== hostArch) await needEmulation(arch, work);
}

async function checkNamespaces(): Promise<void> {
  const { username: user, uid } = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const lines = existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
    if (!lines.some((line) => line.startsWith(`${user}:`) || line.startsWith(`${uid}:`))) {
      throw fail("BUILD_SUBIDS_MISSING", { user, file });
    }
  }
  const result = await run("unshare", ["--map-root-user", "--map-auto", "--mount", "true"], {
    okStatuses: [...Array(256).keys()],
  });
  if (result.status !== 0) throw fail("BUILD_NAMESPACES", { user, why: result.stderr.trim() });
}

// How binfmt_misc knows a program of each architecture: the head of its ELF file, and which bits count.
const formats: Record<Arch, { magic: string; mask: string }> = {
  x86_64: {
    magic: "7f454c4602010100000000000000000002003e00",
    mask: "fffffffffffefe00fffffffffffffffffeffffff",
  },
  aarch64: {
    magic: "7f454c460201010000000000000000000200b700",
    mask: "ffffffffffffff00fffffffffffffffffeffffff",
  },
};
const binfmt = "/proc/sys/fs/binfmt_misc";

/**
 * Programs of another architecture run through QEMU's user emulation, which the kernel must know.
 * Where systemd or binfmt-support has not told it, root tells it here.
 */
async function needEmulation(arch: Arch, work: Work): Promise<void> {
  const name = `qemu-${arch}`;
  const registered = () =>
    existsSync(join(binfmt, name)) && readFileSync(join(binfmt, name), "utf8").startsWith("enabled");
  if (registered()) return;
  const refuse = (why: string, hint: string) => fail("BUILD_EMULATION", { arch, why, hint });
  const install = "install: apt-get install qemu-user-static binfmt-support";
  const emulator = (await findCommand(`${name}-static`)) ?? (await findCommand(`${name}-binfmt`));
  if (emulator === undefined) throw refuse(`${name}-static is not installed`, install);
  if (userInfo().uid !== 0) throw refuse(`the kernel does not know ${name}`, `as root, ${install}`);
  if (!existsSync(join(binfmt, "register"))) {
    try {
      await run("mount", ["-t", "binfmt_misc", "binfmt_misc", binfmt], { signal: work.signal });
    } catch (error) {
      const why = `binfmt_misc cannot be mounted (${(error as Error).message})`;
      throw fail(
        "BUILD_EMULATION",
        { arch, why, hint: "load the kernel module: modprobe binfmt_misc" },
        { cause: error },
      );
    }
    if (registered()) return;
  }
  const hexEscapes = (hex: string) => hex.replace(/../g, "\\x$&");
  const { magic, mask } = formats[arch];
  // Flag F opens the emulator now, so that it is found from within the image's root as well.
  const line = `:${name}:M::${hexEscapes(magic)}:${hexEscapes(mask)}:${emulator}:F`;
  await run("sh", ["-c", `cat >${binfmt}/register`], { input: line, signal: work.signal });
  work.note(`told the kernel to run ${arch} programs with ${emulator} (binfmt_misc, until the next boot)`);
}
