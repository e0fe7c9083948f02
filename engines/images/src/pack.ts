import { existsSync } from "node:fs";
import { lstat, readdir, readFile, readlink, realpath } from "node:fs/promises";
import { basename, dirname, join, normalize } from "node:path";
import { run } from "@skep/base";
import type { CpioEntry } from "./cpio.ts";
import { elfNeeds, moduleNeeds } from "./elf.ts";

/** The archive's entries by path, each directory made before what is in it. */
export class EntrySet {
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

export type Broken = (why: string) => Error;

/** Busybox answers to every name it knows; the links let programs find it by path. */
export async function addBusybox(entries: EntrySet, root: string, broken: Broken): Promise<void> {
  const path = await findIn(root, ["/bin/busybox", "/usr/bin/busybox"]);
  if (path === undefined) throw broken("no package has busybox: add busybox-static to the recipe");
  const program = await readFile(path);
  if ((elfNeeds(program)?.libraries.length ?? 0) > 0)
    throw broken("busybox is not static: use busybox-static");
  entries.file("bin/busybox", program, 0o755);
  for (const name of ["sh", "mount", "umount", "mkdir", "cat", "ip", "hostname", "setsid"])
    entries.link(`bin/${name}`, "/bin/busybox");
  for (const name of ["init", "modprobe", "poweroff", "reboot", "halt", "udhcpc", "acpid", "mdev"]) {
    entries.link(`sbin/${name}`, "/bin/busybox");
  }
}

/** A program with its loader and every library that it needs, at the paths where the loader looks. */
export async function addProgram(
  entries: EntrySet,
  root: string,
  program: string,
  broken: Broken,
): Promise<void> {
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
export async function addModules(
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
