import { createHash } from "node:crypto";
import { copyFile, mkdir, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { findCommand, run, type Work } from "@skep/base";
import type { BuildContext, BuiltFiles } from "./build.ts";
import { writeCpio } from "./cpio.ts";
import { fail } from "./errors.ts";
import { helperFiles } from "./helper.ts";
import { digestFile, type InstalledPackage } from "./manifest.ts";
import { copyKeyrings, makeTree, shellQuote } from "./mmdebstrap.ts";
import { addBusybox, addModules, addProgram, EntrySet } from "./pack.ts";
import { keepPackages, offerPackages } from "./packages.ts";
import { assetPath, diskFile, initramfsFile, kernelFile, serialConsole } from "./paths.ts";

const label = "skep-root";
const mebibyte = 1024 * 1024;

/** Builds the root file system, its kernel and its initramfs into the staging directory. */
export async function buildDisk(context: BuildContext, work: Work): Promise<BuiltFiles> {
  const { recipe, arch, scratch, staging } = context;
  const tree = join(scratch, "root.tar");
  const packageList = join(scratch, "packages");
  const fetched = join(scratch, "fetched");
  await mkdir(fetched);
  await makeTree(
    {
      name: recipe.name,
      arch,
      suite: recipe.suite,
      source: context.source,
      variant: "apt",
      packages: [...recipe.packages, recipe.kernel[arch] as string],
      sourceDateEpoch: context.sourceDateEpoch,
      exclude: recipe.exclude,
      hooks: [
        ...(await packageHooks(context, fetched, work.signal)),
        ...(await treeHooks(context, packageList, work)),
      ],
      target: tree,
      scratch,
      log: context.log,
    },
    work,
  );
  work.report({ phase: `${recipe.name}: making the disk` });
  const rootTreeDigest = await digestFile(tree, work.signal);
  const packages = parsePackages(await readFile(packageList, "utf8"));
  await keepPackages(context.keptPackages, fetched, packages, work.signal);
  const boot = await takeKernel(context, tree, work);
  const virtualBytes = await makeFileSystem(tree, rootTreeDigest, join(staging, diskFile.raw), context, work);
  return {
    disk: { file: diskFile.raw, format: "raw", virtualBytes },
    kernelArguments: [`root=LABEL=${label}`, `console=${serialConsole[arch]}`, recipe.kernelArguments]
      .join(" ")
      .trim(),
    ssh: recipe.packages.includes("openssh-server"),
    rootTreeDigest,
    ...boot,
    packages,
  };
}

/** Packages of earlier builds go in before apt looks, and all come out again before they are cleaned away. */
async function packageHooks(context: BuildContext, fetched: string, signal: AbortSignal): Promise<string[]> {
  const offered = join(context.scratch, "offered");
  await offerPackages(context.keptPackages, context.arch, offered, signal);
  return [
    "--skip=essential/unlink",
    '--setup-hook=mkdir -p "$1"/var/cache/apt/archives',
    `--setup-hook=sync-in ${shellQuote(offered)} /var/cache/apt/archives`,
    `--customize-hook=sync-out /var/cache/apt/archives ${shellQuote(fetched)}`,
  ];
}

/**
 * The recipe's files come before the packages, since packages look at them (initramfs-tools), and again
 * after them, since packages overwrite them; then its commands; then what no image may keep is taken out.
 */
async function treeHooks(context: BuildContext, packageList: string, work: Work): Promise<string[]> {
  const { recipe, scratch, source } = context;
  const keyrings = await copyKeyrings(source, scratch);
  const overlay = join(scratch, "overlay");
  const place = async (path: string, content: string | Uint8Array, mode: number) => {
    const target = join(overlay, path);
    await mkdir(join(target, ".."), { recursive: true, mode: 0o755 });
    await writeFile(target, content, { mode });
    const handle = await open(target, "r");
    await handle.chmod(mode).finally(() => handle.close());
  };
  for (const { path, copy } of keyrings) await place(path, await readFile(copy), 0o644);
  const helper = recipe.helper ? await helperFiles(context, work) : [];
  for (const { path, content, mode } of helper) await place(path, content, mode);
  for (const file of recipe.files)
    await place(file.path, file.content, Number.parseInt(file.mode ?? "644", 8));
  const tar = join(scratch, "overlay.tar");
  await mkdir(overlay, { recursive: true });
  // Files only: the directories that hold them keep the mode that their packages gave them.
  await run("sh", [
    "-c",
    'cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | tar --null --no-recursion --owner=0 --group=0 --numeric-owner --mtime="@$2" -cf "$3" -T -',
    "sh",
    overlay,
    String(context.sourceDateEpoch),
    tar,
  ]);
  const owners = recipe.files.filter((file) => file.owner !== undefined);
  const script = [
    "set -e",
    `export SOURCE_DATE_EPOCH=${context.sourceDateEpoch}`,
    ...owners.map((file) => `chown ${file.owner} ${shellQuote(file.path)}`),
    ...recipe.commands.map((command) => `echo ${shellQuote(`+ ${command.split("\n")[0]}`)} >&2\n${command}`),
    "dpkg-query --show --showformat='$''{Package}\\t$''{Version}\\t$''{Architecture}\\n' >/.skep-packages",
    "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*",
    `cat >/etc/apt/sources.list.d/${recipe.distribution}.sources <<'END-OF-SOURCES'\n${source.text}\nEND-OF-SOURCES`,
    await readFile(assetPath("disk", "clean.sh"), "utf8"),
  ].join("\n");
  const scriptFile = join(scratch, "finish.sh");
  await writeFile(scriptFile, `${script}\n`, { mode: 0o644 });
  return [
    `--essential-hook=tar-in ${shellQuote(tar)} /`,
    `--customize-hook=tar-in ${shellQuote(tar)} /`,
    `--customize-hook=upload ${shellQuote(scriptFile)} /.skep-finish`,
    '--customize-hook=chroot "$1" /bin/sh /.skep-finish',
    `--customize-hook=download /.skep-packages ${shellQuote(packageList)}`,
    '--customize-hook=rm "$1"/.skep-finish "$1"/.skep-packages',
  ];
}

/**
 * Takes the newest kernel out of the tree, to be booted directly, and packs an initramfs that only finds,
 * checks and mounts the root: the distribution's own starts udev and dozens of scripts, which costs
 * seconds under emulation.
 */
async function takeKernel(context: BuildContext, tree: string, work: Work) {
  const { recipe, scratch, staging } = context;
  const parts = join(scratch, "parts");
  await mkdir(parts);
  const wanted = ["./boot", "./lib*", "./usr/lib/*-linux-gnu*", "./usr/lib/modules", "./bin", "./sbin"];
  wanted.push("./usr/bin/busybox", "./usr/sbin/e2fsck", "./usr/lib64");
  await run("tar", ["-xf", tree, "-C", parts, "--no-same-owner", "--wildcards", ...wanted], {
    signal: work.signal,
    okStatuses: [0, 2], // which of these there are depends on the release
  });
  const broken = (why: string) =>
    fail("BUILD_FAILED", { name: recipe.name, phase: "packing the initramfs", why, log: context.log });
  const version = newestKernel(await readdir(join(parts, "boot")).catch(() => []));
  if (version === undefined) throw broken("/boot has no vmlinuz");
  const entries = new EntrySet();
  await addBusybox(entries, parts, broken);
  await addProgram(entries, parts, "/usr/sbin/e2fsck", broken);
  await addModules(entries, parts, version, recipe.loadModules, [...recipe.loadModules, ...recipe.modules]);
  entries.file("init", await readFile(assetPath("disk", "init")), 0o755);
  for (const path of ["dev", "proc", "sys", "run", "root", "etc"]) entries.directory(path);
  entries.device("dev/console", 0o600, 5, 1);
  entries.device("dev/null", 0o666, 1, 3);
  await writeFile(join(staging, initramfsFile), writeCpio(entries.sorted(), context.sourceDateEpoch));
  await copyFile(join(parts, "boot", `vmlinuz-${version}`), join(staging, kernelFile));
  const config = await readFile(join(parts, "boot", `config-${version}`), "utf8").catch(() => "");
  await rm(parts, { recursive: true });
  return { kernelVersion: version, vmGenerationId: /^CONFIG_VMGENID=[ym]$/m.test(config) };
}

export function newestKernel(files: readonly string[]): string | undefined {
  const versions = files
    .filter((file) => file.startsWith("vmlinuz-"))
    .map((file) => file.slice("vmlinuz-".length));
  return versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
}

/**
 * An ext4 file system without a partition table, the same bytes for the same tree: fixed UUID and hash
 * seed, and every time in it is the source date. mke2fs 1.47.0 takes ctime and atime from the
 * unpacked files, so debugfs sets those afterwards.
 */
async function makeFileSystem(
  tree: string,
  treeDigest: string,
  target: string,
  context: BuildContext,
  work: Work,
): Promise<number> {
  const { recipe, scratch, sourceDateEpoch } = context;
  const root = join(scratch, "root");
  const seed = uuidOf(`${recipe.name} ${context.arch} ${treeDigest}`);
  const script = `set -e
mkdir -p "$2"; trap 'rm -rf --one-file-system "$2"' EXIT
# Device nodes stay out: a plain user cannot make them, and the kernel mounts its own /dev anyway.
tar -xpf "$1" -C "$2" --exclude='./dev/*' --numeric-owner --xattrs --xattrs-include='*'
used=$(du -s -B1 --apparent-size "$2" | cut -f1); files=$(find "$2" | wc -l)
# Blocks are half empty on average, inodes take 256 bytes each, the journal its own.
size=$(( (used + files * 4096 + $4) * 104 / 100 + 96 * ${mebibyte} )); size=$(( (size / ${mebibyte} + 4) / 4 * 4 * ${mebibyte} ))
truncate -s "$size" "$3"
mke2fs -q -F -t ext4 -m 1 -J size=64 -L ${label} -U ${seed} -E hash_seed=${seed},lazy_itable_init=1,lazy_journal_init=1,nodiscard -d "$2" "$3"
`;
  const inside = userInfo().uid === 0 ? [] : ["--map-root-user", "--map-auto"];
  const env = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LC_ALL: "C",
    MKE2FS_CONFIG: assetPath("disk", "mke2fs.conf"),
    E2FSPROGS_FAKE_TIME: String(sourceDateEpoch),
  };
  const arguments_ = ["sh", "-c", script, "sh", tree, root, target, String(recipe.roomBytes)];
  await run("unshare", [...inside, "--mount", ...arguments_], { signal: work.signal, env });
  const dump = await run((await findCommand("dumpe2fs")) ?? "dumpe2fs", [target], {
    signal: work.signal,
    env,
  });
  const fixes = usedInodes(dump.stdout).flatMap((inode) => [
    `sif <${inode}> ctime @${sourceDateEpoch}`,
    `sif <${inode}> atime @${sourceDateEpoch}`,
  ]);
  const fixFile = join(scratch, "times");
  await writeFile(fixFile, `${fixes.join("\n")}\n`);
  await run((await findCommand("debugfs")) ?? "debugfs", ["-w", "-f", fixFile, target], {
    signal: work.signal,
    env,
  });
  return (await stat(target)).size;
}

/** Inodes in use above the reserved ones, from dumpe2fs's list of the free ones in each group. */
export function usedInodes(dump: string): number[] {
  const count = Number(/^Inode count:\s+(\d+)$/m.exec(dump)?.[1] ?? 0);
  const free = new Set<number>();
  for (const [, list] of dump.matchAll(/^ {2}Free inodes: (.*)$/gm)) {
    for (const [, from, to] of (list as string).matchAll(/(\d+)(?:-(\d+))?/g)) {
      for (let inode = Number(from); inode <= Number(to ?? from); inode += 1) free.add(inode);
    }
  }
  const used: number[] = [];
  for (let inode = 11; inode <= count; inode += 1) if (!free.has(inode)) used.push(inode);
  return used;
}

function uuidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function parsePackages(text: string): InstalledPackage[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("\t"))
    .map(([name = "", version = "", arch = ""]) => ({ name, version, arch }));
}
