import { copyFile, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run, type Work } from "@skep/base";
import type { BuildContext, BuiltFiles } from "./build.ts";
import { writeCpio } from "./cpio.ts";
import { newestKernel } from "./disk.ts";
import { fail } from "./errors.ts";
import { helperProgram } from "./helper.ts";
import { digestFile, type InstalledPackage } from "./manifest.ts";
import { makeTree } from "./mmdebstrap.ts";
import { addBusybox, addModules, addProgram, EntrySet } from "./pack.ts";
import { assetPath, initramfsFile, kernelFile, serialConsole } from "./paths.ts";

const programs = ["/usr/sbin/qemu-ga"];
const scripts: [asset: string, path: string][] = [
  ["init", "init"],
  ["rc", "etc/rc"],
  ["agent", "usr/sbin/agent"],
  ["dhcp-lease", "usr/sbin/dhcp-lease"],
  ["shutdown", "sbin/shutdown"],
  ["power-button", "etc/acpi/PWRF/00000080"],
];

/**
 * Packs the distribution's kernel modules, busybox and the guest agent into an initramfs. Packages are
 * only unpacked, nothing of the guest's architecture runs: any host can build for any guest.
 */
export async function buildInitramfs(context: BuildContext, work: Work): Promise<BuiltFiles> {
  const { recipe, arch, scratch, staging, sourceDateEpoch } = context;
  const tar = join(scratch, "root.tar");
  const packages = [...recipe.packages, recipe.kernel[arch] as string];
  await makeTree(
    {
      name: recipe.name,
      arch,
      suite: recipe.suite,
      source: context.source,
      variant: "extract",
      packages,
      sourceDateEpoch,
      exclude: [],
      // Nothing is installed, so dpkg has no list; the archives' names are one: NAME_VERSION_ARCH.deb.
      hooks: ['--extract-hook=cd "$1/var/cache/apt/archives" && ls -- *.deb >"$1/skep-packages"'],
      target: tar,
      scratch,
      log: context.log,
    },
    work,
  );
  work.report({ phase: `${recipe.name}: packing the initramfs` });
  const root = join(scratch, "root");
  await run("mkdir", [root]);
  await run(
    "tar",
    ["-xf", tar, "-C", root, "--exclude=./dev/*", "--no-same-owner", "--no-same-permissions"],
    { signal: work.signal },
  );
  const boot = join(root, "boot");
  const version = newestKernel(await readdir(boot));
  const broken = (why: string) =>
    fail("BUILD_FAILED", { name: recipe.name, phase: "packing the initramfs", why, log: context.log });
  if (version === undefined) throw broken("/boot has no vmlinuz");
  const entries = new EntrySet();
  await addBusybox(entries, root, broken);
  for (const program of programs) await addProgram(entries, root, program, broken);
  await addModules(entries, root, version, recipe.loadModules, [...recipe.loadModules, ...recipe.modules]);
  const helper = recipe.helper ? await helperProgram(context, work) : undefined;
  await addConfiguration(entries, recipe.loadModules, helper);
  for (const file of recipe.files) {
    entries.file(file.path.slice(1), Buffer.from(file.content), Number.parseInt(file.mode ?? "644", 8));
  }
  const archive = writeCpio(entries.sorted(), sourceDateEpoch);
  await writeFile(join(staging, initramfsFile), archive);
  await copyFile(join(boot, `vmlinuz-${version}`), join(staging, kernelFile));
  const config = await readFile(join(boot, `config-${version}`), "utf8").catch(() => "");
  return {
    disk: null,
    kernelArguments: [`console=${serialConsole[arch]}`, recipe.kernelArguments].join(" ").trim(),
    ssh: false,
    rootTreeDigest: await digestFile(tar, work.signal),
    kernelVersion: version,
    vmGenerationId: /^CONFIG_VMGENID=[ym]$/m.test(config),
    packages: await unpackedPackages(root),
  };
}

async function addConfiguration(
  entries: EntrySet,
  load: readonly string[],
  helper: Buffer | undefined,
): Promise<void> {
  for (const [asset, path] of scripts) entries.file(path, await readFile(assetPath("tiny", asset)), 0o755);
  const inittab = await readFile(assetPath("tiny", "inittab"));
  if (helper === undefined) entries.file("etc/inittab", inittab, 0o644);
  else {
    entries.file("usr/sbin/skep-helper", helper, 0o755);
    entries.file(
      "etc/inittab",
      Buffer.concat([inittab, Buffer.from("::respawn:/usr/sbin/skep-helper\n")]),
      0o644,
    );
  }
  entries.file("etc/passwd", Buffer.from("root:x:0:0:root:/root:/bin/sh\n"), 0o644);
  entries.file("etc/group", Buffer.from("root:x:0:\ntty:x:5:\n"), 0o644);
  entries.file(
    "etc/profile",
    Buffer.from("export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PS1='\\h:\\w# '\ncd\n"),
    0o644,
  );
  if (!entries.has("etc/modules")) entries.file("etc/modules", Buffer.from(load.join("\n")), 0o644);
  for (const path of ["dev", "proc", "sys", "run", "tmp", "root", "mnt", "var/run", "usr/bin"])
    entries.directory(path);
  entries.device("dev/console", 0o600, 5, 1);
  entries.device("dev/null", 0o666, 1, 3);
}

async function unpackedPackages(root: string): Promise<InstalledPackage[]> {
  const archives = await readFile(join(root, "skep-packages"), "utf8");
  return archives
    .split("\n")
    .filter((line) => line.endsWith(".deb"))
    .map((line) => line.slice(0, -".deb".length).split("_").map(decodeURIComponent))
    .map(([name = "", version = "", arch = ""]) => ({ name, version, arch }));
}
