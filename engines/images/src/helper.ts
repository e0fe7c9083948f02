import { createHash, randomBytes } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { copyFile, mkdir, readFile, rename } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { exists, type Work } from "@skep/base";
import type { BuildContext } from "./build.ts";
import { withLock } from "./lock.ts";
import { debianArch, makeTree, shellQuote } from "./mmdebstrap.ts";
import { guestPath } from "./paths.ts";
import { hostArch } from "./requirements.ts";

/** Where a guest with systemd has the helper; what is beside it of guest/ goes to these places. */
const installed = [
  ["skep-helper.service", "/etc/systemd/system/skep-helper.service"],
  ["60-skep-helper.rules", "/etc/udev/rules.d/60-skep-helper.rules"],
] as const;
const program = "/usr/local/sbin/skep-helper";

export interface PlacedFile {
  path: string;
  content: Buffer;
  mode: number;
}

/** The helper as a guest with systemd has it: udev starts it when it finds the port. */
export async function helperFiles(context: BuildContext, work: Work): Promise<PlacedFile[]> {
  const files = installed.map(([name, path]) => ({
    path,
    content: readFileSync(guestPath(name)),
    mode: 0o644,
  }));
  return [{ path: program, content: await helperProgram(context, work), mode: 0o755 }, ...files];
}

/** Everything that decides what the helper does: with another text it makes another image. */
export function helperTexts(): string[] {
  return [...sourceFiles(), ...installed.map(([name]) => name)].map((name) =>
    readFileSync(guestPath(name), "utf8"),
  );
}

function sourceFiles(): string[] {
  return readdirSync(guestPath("."))
    .filter((name) => /\.[ch]$/.test(name) || name === "build.sh")
    .sort();
}

// As the distribution's cross compilers are called.
const triplets: Record<Arch, string> = { x86_64: "x86_64-linux-gnu", aarch64: "aarch64-linux-gnu" };

function compiler(arch: Arch): { packages: string[]; command: string } {
  if (arch === hostArch) return { packages: ["gcc", "libc6-dev"], command: "gcc" };
  const triplet = triplets[arch];
  const packages = [`gcc-${triplet.replace("_", "-")}`, `libc6-dev-${debianArch[arch]}-cross`];
  return { packages, command: `${triplet}-gcc` };
}

/**
 * The helper's program for the image's architecture, static. It is compiled by the distribution's compiler
 * out of the same archive, unpacked for this and thrown away: the host needs none, no image has one, nothing
 * is emulated, and two builds from one state of the archive agree. Kept for the next image of that state.
 */
export async function helperProgram(context: BuildContext, work: Work): Promise<Buffer> {
  const { recipe, arch, source, sourceDateEpoch } = context;
  const hash = createHash("sha256");
  hash.update(JSON.stringify([helperTexts(), arch, hostArch, recipe.suite, source.text, sourceDateEpoch]));
  const key = hash.digest("hex");
  const kept = join(context.keptHelpers, key);
  const wait = () => work.report({ phase: `${recipe.name}: waiting for another build of the helper` });
  return await withLock(context.locks, `helper ${key}`, work.signal, wait, async () => {
    if (!(await exists(kept))) await compile(context, kept, work);
    return await readFile(kept);
  });
}

async function compile(context: BuildContext, target: string, work: Work): Promise<void> {
  const { recipe, arch, scratch } = context;
  const sources = join(scratch, "helper-source");
  const made = join(scratch, "skep-helper");
  await mkdir(sources);
  for (const name of sourceFiles()) await copyFile(guestPath(name), join(sources, name));
  const { packages, command } = compiler(arch);
  await makeTree(
    {
      name: `${recipe.name} (its helper)`,
      arch: hostArch,
      suite: recipe.suite,
      source: context.source,
      variant: "extract",
      packages: ["base-files", "dash", ...packages],
      sourceDateEpoch: context.sourceDateEpoch,
      exclude: [],
      hooks: [
        '--extract-hook=mkdir -p "$1/skep" "$1/tmp"',
        `--extract-hook=sync-in ${shellQuote(sources)} /skep`,
        `--extract-hook=CC=${command} TMPDIR=/skep chroot "$1" /bin/dash /skep/build.sh /skep/skep-helper`,
        `--extract-hook=download /skep/skep-helper ${shellQuote(made)}`,
      ],
      target: null,
      scratch,
      log: join(dirname(context.log), `build-helper-${arch}.log`),
    },
    work,
  );
  await mkdir(dirname(target), { recursive: true });
  const beside = `${target}.${randomBytes(4).toString("hex")}`;
  await copyFile(made, beside);
  await rename(beside, target);
}
