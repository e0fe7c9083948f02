import { appendFile, copyFile, mkdir, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { dirname, join } from "node:path";
import type { Arch } from "@skep/api/schemas";
import { run, SkepError, type Work } from "@skep/base";
import { fail } from "./errors.ts";
import type { BuildSource } from "./source.ts";

export const debianArch: Record<Arch, string> = { x86_64: "amd64", aarch64: "arm64" };

export interface TreeRequest {
  name: string;
  arch: Arch;
  suite: string;
  source: BuildSource;
  /** `extract` unpacks and runs nothing of the guest's architecture. */
  variant: "apt" | "extract";
  packages: string[];
  sourceDateEpoch: number;
  /** Paths that dpkg leaves out, now and in later upgrades. */
  exclude: string[];
  /** mmdebstrap's hooks, in order: `--essential-hook=…`. */
  hooks: string[];
  /** The tar archive to write; null where the hooks have taken what is wanted. */
  target: string | null;
  /** Scratch space of this build. */
  scratch: string;
  /** A file that gets everything the tools print. */
  log: string;
}

// What mmdebstrap says when it begins a step, and what that means to a person.
const phases: [RegExp, string][] = [
  [/running apt-get update/, "reading package lists"],
  [/downloading packages/, "downloading packages"],
  [/extracting archives/, "unpacking packages"],
  [/installing essential packages/, "installing essential packages"],
  [/installing remaining packages/, "installing packages"],
  [/cleaning package lists/, "cleaning up"],
  [/creating tarball/, "writing the root tree"],
];

/** Makes a root file system as a tar archive from the distribution's packages. */
export async function makeTree(request: TreeRequest, work: Work): Promise<void> {
  const root = userInfo().uid === 0;
  const sources = join(request.scratch, "sources.sources");
  await writeFile(sources, request.source.text, { mode: 0o644 });
  await mkdir(dirname(request.log), { recursive: true });
  await writeFile(request.log, "");
  const args = [
    `--mode=${root ? "root" : "unshare"}`,
    `--variant=${request.variant}`,
    `--architectures=${debianArch[request.arch]}`,
    `--format=${request.target === null ? "null" : "tar"}`,
    "--skip=check/qemu",
    ...(await hostAptOptions()).map((option) => `--aptopt=${option}`),
    "--dpkgopt=force-confold", // the recipe's files are there before their packages; clean.sh takes it back
    ...(request.packages.length > 0 ? [`--include=${request.packages.join(",")}`] : []),
    ...request.exclude.map((path) => `--dpkgopt=path-exclude=${path}`),
    ...request.hooks,
    request.suite,
    request.target ?? "-",
    sources,
  ];
  let phase = "starting";
  let done = 0;
  let log = Promise.resolve();
  const onStderrLine = (line: string) => {
    log = log.then(() => appendFile(request.log, `${line}\n`)).catch(() => undefined);
    const found = phases.findIndex(([pattern]) => pattern.test(line));
    if (found < 0 || !line.startsWith("I: ")) return;
    phase = (phases[found] as [RegExp, string])[1];
    done = Math.max(done, found);
    work.report({ phase: `${request.name}: ${phase}`, done, total: phases.length, unit: "steps" });
  };
  // Own mount namespace: should mmdebstrap be killed, its mounts go with it and no clean-up walks into them.
  const [command, all] = root
    ? ["unshare", ["--mount", "--propagation", "private", "mmdebstrap", ...args]]
    : ["mmdebstrap", args];
  try {
    await run(command, all, {
      signal: work.signal,
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: process.env.HOME ?? "/",
        LC_ALL: "C.UTF-8",
        SOURCE_DATE_EPOCH: String(request.sourceDateEpoch),
        INITRD: "No", // the kernel's package need not make one: ours is packed afterwards
        ...(root ? { TMPDIR: request.scratch } : {}),
        ...proxies(),
      },
      onStderrLine,
      install: "apt-get install mmdebstrap",
    });
  } catch (error) {
    if (error instanceof SkepError && error.code === "COMMAND_FAILED") {
      throw fail(
        "BUILD_FAILED",
        { name: request.name, phase, why: lastErrors(error.message), log: request.log },
        { cause: error },
      );
    }
    throw error;
  } finally {
    await log;
  }
}

/** For the hooks, which are lines of a shell, mmdebstrap's own ones too. */
export function shellQuote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** The lines that say what went wrong, out of apt's and dpkg's many. */
function lastErrors(text: string): string {
  const lines = text.split("\n");
  const errors = lines.filter((line) =>
    /^\s*(?:E:|dpkg: error|W: GPG|.*(?:Failed to fetch|No space left))/.test(line),
  );
  return (errors.length > 0 ? errors : lines).slice(-4).join("; ");
}

function proxies(): Record<string, string> {
  const names = ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
  return Object.fromEntries(
    names.flatMap((name) => (process.env[name] === undefined ? [] : [[name, process.env[name] as string]])),
  );
}

/** How this host reaches its mirror (a proxy, an archive of the past) holds for the build as well. */
async function hostAptOptions(): Promise<string[]> {
  const { stdout } = await run("apt-config", ["dump"], { install: "apt-get install apt" });
  return stdout
    .split("\n")
    .filter((line) =>
      /^Acquire::(?:Check-Valid-Until|Check-Date|Retries|(?:http|https|ftp)::Proxy(?:::[\w.-]+)?) "[^"]*";$/.test(
        line,
      ),
    )
    .map((line) => line.replace(/;$/, ""));
}

/**
 * Newest date of the sources' Release files: two builds from the same state of the archive agree on it,
 * and no clock has a say.
 */
export async function archiveDate(source: BuildSource, scratch: string, work: Work): Promise<number> {
  let newest = 0;
  let problem: unknown;
  for (const { uris, suites } of source.sources) {
    for (const suite of suites) {
      const file = join(scratch, "Release");
      const url = `${(uris[0] as string).replace(/\/$/, "")}/${suite.endsWith("/") ? suite : `dists/${suite}/`}InRelease`;
      try {
        await run("/usr/lib/apt/apt-helper", ["-o", "Acquire::Retries=1", "download-file", url, file], {
          signal: work.signal,
          cwd: scratch,
          env: { ...process.env, LC_ALL: "C.UTF-8", TMPDIR: scratch },
        });
        const { stdout } = await run("sed", ["-n", "s/^Date: //p;/^Date:/q", file]);
        const seconds = Date.parse(stdout.trim()) / 1000;
        if (Number.isSafeInteger(seconds)) newest = Math.max(newest, seconds);
      } catch (error) {
        work.signal.throwIfAborted();
        problem = error;
      }
    }
  }
  if (newest > 0) return newest;
  throw fail(
    "BUILD_FAILED",
    {
      name: "image",
      phase: "reading the archive's date",
      why: (problem as Error)?.message ?? "no Release file has a date",
      log: "none",
    },
    { cause: problem },
  );
}

/** Copies the keyrings that the sources name next to the build, to be put into the image. */
export async function copyKeyrings(
  source: BuildSource,
  scratch: string,
): Promise<{ path: string; copy: string }[]> {
  const copies = source.keyrings.map((path, index) => ({ path, copy: join(scratch, `keyring-${index}`) }));
  for (const { path, copy } of copies) await copyFile(path, copy);
  return copies;
}
