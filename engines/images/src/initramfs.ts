import { existsSync } from "node:fs";
import { copyFile, lstat, readdir, readFile, readlink, realpath, writeFile } from "node:fs/promises";
import { basename, dirname, join, normalize } from "node:path";
import { run, type Work } from "@skep/base";
import type { BuildContext, BuiltFiles } from "./build.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { newestKernel } from "./disk.ts";
import { elfNeeds, moduleNeeds } from "./elf.ts";
import { fail } from "./errors.ts";
import { digestFile, type InstalledPackage } from "./manifest.ts";
import { makeTree } from "./mmdebstrap.ts";
import { assetPath, initramfsFile, kernelFile } from "./paths.ts";

const console_ = { x86_64: "ttyS0", aarch64: "ttyAMA0" } as const;
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
  await addConfiguration(entries, recipe.loadModules);
  for (const file of recipe.files) {
    entries.file(file.path.slice(1), Buffer.from(file.content), Number.parseInt(file.mode ?? "644", 8));
  }
  const archive = writeCpio(entries.sorted(), sourceDateEpoch);
  await writeFile(join(staging, initramfsFile), archive);
  await copyFile(join(boot, `vmlinuz-${version}`), join(staging, kernelFile));
  const config = await readFile(join(boot, `config-${version}`), "utf8").catch(() => "");
  return {
    disk: null,
    kernelArguments: [`console=${console_[arch]}`, recipe.kernelArguments].join(" ").trim(),
    ssh: false,
    rootTreeDigest: await digestFile(tar, work.signal),
    kernelVersion: version,
    vmGenerationId: /^CONFIG_VMGENID=[ym]$/m.test(config),
    packages: await unpackedPackages(root),
  };
}

/** The archive's entries by path, each directory made before what is in it. */
class EntrySet {
  #entries = new Map<string, CpioEntry>();

  file(path: string, data: Buffer, mode: number): void {
    this.directory(dirname(path));
    this.#entries.set(path, { path, type: "file", mode, data });
  }

  link(path: string, target: string): void {
    this.directory(dirname(path));
    this.#entries.set(path, { path, type: "link", target });
  }

  device(path: string, mode: number, major: number, minor: number): void {
    this.directory(dirname(path));
    this.#entries.set(path, { path, type: "device", mode, major, minor });
  }

  directory(path: string, mode = 0o755): void {
    if (path === "." || this.#entries.has(path)) return;
    this.directory(dirname(path));
    this.#entries.set(path, { path, type: "directory", mode });
  }

  has(path: string): boolean {
    return this.#entries.has(path);
  }

  /** A directory's path is a prefix of its content's, so it sorts before it. */
  sorted(): CpioEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.path < b.path ? -1 : 1));
  }
}

type Broken = (why: string) => Error;

/** Busybox answers to every name it knows; the links let programs find it by path. */
async function addBusybox(entries: EntrySet, root: string, broken: Broken): Promise<void> {
  const path = await findIn(root, ["/bin/busybox", "/usr/bin/busybox"]);
  if (path === undefined) throw broken("no package has busybox: add busybox-static to the recipe");
  const program = await readFile(path);
  if ((elfNeeds(program)?.libraries.length ?? 0) > 0)
    throw broken("busybox is not static: use busybox-static");
  entries.file("bin/busybox", program, 0o755);
  for (const name of ["sh", "mount", "umount", "mkdir", "cat", "ip", "hostname"])
    entries.link(`bin/${name}`, "/bin/busybox");
  for (const name of ["init", "modprobe", "poweroff", "reboot", "halt", "udhcpc", "acpid", "mdev"]) {
    entries.link(`sbin/${name}`, "/bin/busybox");
  }
}

/** A program with its loader and every library that it needs, at the paths where the loader looks. */
async function addProgram(entries: EntrySet, root: string, program: string, broken: Broken): Promise<void> {
  const path = await findIn(root, [program, program.replace(/^\/usr/, "")]);
  if (path === undefined) throw broken(`no package has ${program}`);
  const queue = [{ name: program, data: await readFile(path), target: program.slice(1) }];
  for (let item = queue.pop(); item !== undefined; item = queue.pop()) {
    if (entries.has(item.target)) continue;
    entries.file(item.target, item.data, 0o755);
    const needs = elfNeeds(item.data);
    if (needs === undefined) throw broken(`${item.name} is not a program`);
    const wanted = needs.libraries.map((library) => ({
      name: library,
      places: libraryPlaces(root, library),
    }));
    if (needs.interpreter !== null) {
      const places = [needs.interpreter, ...libraryPlaces(root, basename(needs.interpreter))];
      wanted.push({ name: needs.interpreter, places });
    }
    for (const { name, places } of wanted) {
      const found = await findIn(root, places);
      if (found === undefined) throw broken(`${item.name} needs ${name}, which no package has`);
      const target = name.startsWith("/") ? name.slice(1) : `usr/lib/${name}`;
      queue.push({ name, data: await readFile(found), target });
    }
  }
}

function libraryPlaces(root: string, library: string): string[] {
  const triplets = ["x86_64-linux-gnu", "aarch64-linux-gnu"].filter((one) =>
    existsSync(join(root, "usr/lib", one)),
  );
  const folders = triplets.flatMap((one) => [`/lib/${one}`, `/usr/lib/${one}`]);
  return [...folders, "/lib", "/usr/lib", "/lib64"].map((folder) => join(folder, library));
}

/** Modules with all they depend on, and the `modules.dep` that busybox's modprobe reads. */
async function addModules(
  entries: EntrySet,
  root: string,
  version: string,
  load: readonly string[],
  wanted: readonly string[],
): Promise<void> {
  const folders = ["lib/modules", "usr/lib/modules"].map((folder) => join(root, folder, version));
  const folder = folders.find((one) => existsSync(one));
  if (folder === undefined) return;
  const files = await readdir(folder, { recursive: true });
  const byName = new Map<string, string>();
  for (const file of files) {
    const match = /([^/]+)\.ko(?:\.xz|\.zst|\.gz)?$/.exec(file);
    if (match !== null) byName.set((match[1] as string).replaceAll("-", "_"), file);
  }
  const dependencies = new Map<string, string[]>();
  const visit = async (name: string): Promise<void> => {
    const file = byName.get(name);
    if (file === undefined || dependencies.has(file)) return; // built into the kernel, or not of this architecture
    const data = await readModule(join(folder, file));
    const needs = moduleNeeds(data).map((need) => need.replaceAll("-", "_"));
    dependencies.set(file, needs);
    for (const need of needs) await visit(need);
    entries.file(`lib/modules/${version}/${plain(file)}`, data, 0o644);
  };
  for (const name of wanted) await visit(name.replaceAll("-", "_"));
  // modprobe loads a line from its end, so what needs nothing stands last.
  const all = (file: string, seen: string[] = []): string[] => {
    for (const need of dependencies.get(file) ?? []) {
      const path = byName.get(need);
      if (path === undefined || seen.includes(path)) continue;
      all(path, seen);
      if (!seen.includes(path)) seen.push(path);
    }
    return seen;
  };
  const line = (file: string) => `${[`${plain(file)}:`, ...all(file).reverse().map(plain)].join(" ")}\n`;
  const lines = [...dependencies.keys()].sort().map(line);
  entries.file(`lib/modules/${version}/modules.dep`, Buffer.from(lines.join("")), 0o644);
  const present = load.filter((name) => byName.has(name.replaceAll("-", "_")));
  entries.file(
    "etc/modules",
    Buffer.from(present.map((name) => `${name.replaceAll("-", "_")}\n`).join("")),
    0o644,
  );
}

function plain(file: string): string {
  return file.replace(/\.(?:xz|zst|gz)$/, "");
}

/** A module's own bytes: newer releases ship them compressed. */
async function readModule(path: string): Promise<Buffer> {
  if (path.endsWith(".ko")) return await readFile(path);
  const command = path.endsWith(".xz") ? "xz" : path.endsWith(".zst") ? "zstd" : "gzip";
  const output = `${path}.plain`;
  await run("sh", ["-c", '"$1" -dc "$2" >"$3"', "sh", command, path, output]);
  return await readFile(output);
}

async function addConfiguration(entries: EntrySet, load: readonly string[]): Promise<void> {
  for (const [asset, path] of scripts) entries.file(path, await readFile(assetPath("tiny", asset)), 0o755);
  entries.file("etc/inittab", await readFile(assetPath("tiny", "inittab")), 0o644);
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

/** The first of some paths inside `root`; links are followed as the guest would follow them. */
async function findIn(root: string, paths: readonly string[]): Promise<string | undefined> {
  for (const path of paths) {
    const found = await resolveIn(root, path, 0);
    if (found !== undefined) return found;
  }
  return undefined;
}

async function resolveIn(root: string, path: string, depth: number): Promise<string | undefined> {
  if (depth > 16) return undefined;
  const parts = normalize(path).split("/").filter(Boolean);
  let at = "/";
  for (const [index, part] of parts.entries()) {
    const next = join(at, part);
    const stats = await lstat(join(root, next)).catch(() => undefined);
    if (stats === undefined) return undefined;
    if (stats.isSymbolicLink()) {
      const target = await readlink(join(root, next));
      const from = target.startsWith("/") ? target : join(at, target);
      return await resolveIn(root, join(from, ...parts.slice(index + 1)), depth + 1);
    }
    at = next;
  }
  return await realpath(join(root, at));
}

async function unpackedPackages(root: string): Promise<InstalledPackage[]> {
  const archives = await readFile(join(root, "skep-packages"), "utf8");
  return archives
    .split("\n")
    .filter((line) => line.endsWith(".deb"))
    .map((line) => line.slice(0, -".deb".length).split("_").map(decodeURIComponent))
    .map(([name = "", version = "", arch = ""]) => ({ name, version, arch }));
}
