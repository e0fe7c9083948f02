import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, readFileSync } from "node:fs";
import { cp, link, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api/schemas";
import { homeMark, isErrno, processArguments, processStartTime, runtimeDirectory } from "@skep/base";

export const root = resolve(import.meta.dirname, "..");
const skepCommand = join(root, "skep");

export interface Result {
  status: number;
  stdout: string;
  stderr: string;
}

export interface SkepOptions {
  input?: string | Uint8Array;
  env?: Record<string, string | undefined>;
  /** Fail the test on another status; default 0, null takes any. */
  status?: number | null;
}

/** One installation of its own: a home, a skepd when a command needs it, and `skep` to drive it. */
export class Installation implements AsyncDisposable {
  readonly home: string;
  readonly runtime: string;
  readonly #env: Record<string, string | undefined>;
  readonly #parent: string;

  private constructor(parent: string) {
    this.#parent = parent;
    this.home = join(parent, "home");
    this.#env = {
      ...process.env,
      SKEP_HOME: this.home,
      SKEP_RUNTIME_DIR: join(parent, "run"),
      HOME: join(parent, "user"),
      XDG_CONFIG_HOME: undefined,
      XDG_DATA_HOME: undefined,
      SKEP_HOST: undefined,
      SKEP_TOKEN: undefined,
      // They would be made beside the test, and take the processors that it counts on.
      SKEP_TEMPLATES: process.env.SKEP_TEMPLATES ?? "asked",
      // would count for more than what a test writes into a profile
      ...Object.fromEntries(
        Object.keys(process.env).flatMap((name) => (/^AWS_/.test(name) ? [[name, undefined]] : [])),
      ),
      NO_COLOR: "1",
    };
    this.runtime = runtimeDirectory(this.home, this.#env);
  }

  /** `images`: names to take from the cache that `npm test` has prepared. */
  static async make(images: readonly string[] = ["tiny"]): Promise<Installation> {
    const parent = await mkdtemp("/tmp/skep-t-");
    chmodSync(parent, 0o711); // QEMU's own users pass through
    const installation = new Installation(parent);
    await mkdir(installation.home, { mode: 0o711 });
    await mkdir(join(parent, "user"));
    await mkdir(join(parent, "run"), { mode: 0o711 });
    await copyImages(installation.home, images);
    return installation;
  }

  /** Runs `skep` as a person would. */
  async skep(args: readonly string[], options: SkepOptions = {}): Promise<Result> {
    const child = this.spawn(args, options);
    child.stdin.on("error", () => {}); // a command may end without reading it
    child.stdin.end(options.input ?? "");
    const result = await collect(child);
    const expected = options.status === undefined ? 0 : options.status;
    if (expected !== null) {
      assert.equal(result.status, expected, `skep ${args.join(" ")}\n${result.stdout}${result.stderr}`);
    }
    return result;
  }

  /** What commands of this installation have in their environment. */
  get environment(): NodeJS.ProcessEnv {
    return { ...this.#env };
  }

  spawn(args: readonly string[], options: SkepOptions = {}): ChildProcessWithoutNullStreams {
    return spawn(skepCommand, args, { env: { ...this.#env, ...options.env }, stdio: "pipe" });
  }

  /** Runs `skep` and presses Ctrl-C once it has said that; by default, whatever it says first. */
  async interrupted(
    args: readonly string[],
    said = /./,
    options: SkepOptions = {},
  ): Promise<{ status: unknown; stderr: string }> {
    const child = this.spawn(args, options);
    let stderr = "";
    let pressed = false;
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      stderr += text;
      if (!pressed && said.test(stderr)) pressed = child.kill("SIGINT");
    });
    const [status] = await once(child, "close");
    return { status, stderr };
  }

  /** Runs another program with this installation's environment. */
  async command(program: string, args: readonly string[], input = ""): Promise<Result> {
    const child = spawn(program, args, { env: this.#env, stdio: "pipe" });
    child.stdin.on("error", () => {});
    child.stdin.end(input);
    return await collect(child);
  }

  async machine(name: string): Promise<Machine> {
    return JSON.parse((await this.skep(["status", name, "--json"])).stdout);
  }

  async machines(): Promise<Machine[]> {
    return JSON.parse((await this.skep(["ls", "--json"])).stdout);
  }

  /** Waits until a machine is as wanted. Each question is a process of its own, which takes time from guests. */
  async until(
    name: string,
    wanted: (machine: Machine) => boolean,
    what: string,
    limitMs?: number,
  ): Promise<Machine> {
    let last: Machine | undefined;
    await eventually(
      async () => {
        last = await this.machine(name);
        return wanted(last);
      },
      () => `${name} never became ${what}: ${JSON.stringify(last)}`,
      { limitMs, pauseMs: 300 },
    );
    return last as Machine;
  }

  daemonPid(): number {
    return JSON.parse(readFileSync(join(this.runtime, "skepd.json"), "utf8")).pid;
  }

  /** Kills skepd as a crash would. */
  async killDaemon(): Promise<void> {
    const pid = this.daemonPid();
    process.kill(pid, "SIGKILL");
    await eventually(
      () => processStartTime(pid) === undefined,
      () => `skepd ${pid} is still there`,
    );
  }

  /** Undefined where no storaged runs. */
  storagedPid(): number | undefined {
    try {
      const { pid, startTime } = JSON.parse(readFileSync(join(this.runtime, "storaged.json"), "utf8"));
      return processStartTime(pid) === startTime ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  /** Kills storaged as a crash would, and waits until it is gone. */
  async killStoraged(): Promise<void> {
    const pid = this.storagedPid();
    if (pid === undefined) return;
    process.kill(pid, "SIGKILL");
    await eventually(
      () => processStartTime(pid) === undefined,
      () => `storaged ${pid} is still there`,
    );
  }

  /** Pids of this home's QEMUs, by their command lines. */
  async qemuPids(): Promise<number[]> {
    const pids: number[] = [];
    for (const name of await readdir("/proc")) {
      if (!/^\d+$/.test(name) || processStartTime(Number(name)) === undefined) continue;
      const args = processArguments(Number(name));
      if (args?.[0]?.includes("qemu-system-") && args.some((arg) => arg.includes(`${this.home}/`))) {
        pids.push(Number(name));
      }
    }
    return pids;
  }

  /** Ends skepd, storaged and every QEMU of this home and removes the home; whatever state the test left. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      const pid = this.daemonPid();
      process.kill(pid, "SIGKILL");
      await eventually(
        () => processStartTime(pid) === undefined,
        () => `skepd ${pid} is still there`,
      );
    } catch (error) {
      if (!isErrno(error, "ENOENT") && !isErrno(error, "ESRCH")) throw error;
    }
    await this.killStoraged(); // nobody starts it again now
    const ids = await this.#machineIds();
    for (const pid of await this.qemuPids()) {
      const id = processArguments(pid)?.find((_, index, args) => args[index - 1] === "-uuid");
      if (id !== undefined) ids.push(id);
      process.kill(pid, "SIGKILL");
      await eventually(
        () => processStartTime(pid) === undefined,
        () => `QEMU ${pid} is still there`,
      );
    }
    for (const id of ids) await rm(`/dev/shm/skep-${id.slice(0, 8)}`, { recursive: true, force: true });
    await this.#clearSharedMemory();
    await rm(this.#parent, { recursive: true, force: true });
  }

  /** The memory of machines that sleep is on disk alone now, as after an hour. */
  async forgetKeptMemory(): Promise<void> {
    for (const name of await readdir("/dev/shm")) {
      const isOurs = name.startsWith(`skep-kept-${homeMark(this.home)}-`);
      if (isOurs) await rm(join("/dev/shm", name), { recursive: true });
    }
  }

  /** What is frozen, or kept, of this home's machines. */
  async #clearSharedMemory(): Promise<void> {
    for (const name of await readdir("/dev/shm")) {
      const path = join("/dev/shm", name);
      const record = name.startsWith("skep-frozen-st-") ? join(path, "record.json") : undefined;
      const text = record === undefined ? "{}" : await readFile(record, "utf8").catch(() => "{}");
      const isOurs = JSON.parse(text).home === this.home || name.includes(`-${homeMark(this.home)}-`);
      if (isOurs) await rm(path, { recursive: true, force: true });
    }
  }

  async #machineIds(): Promise<string[]> {
    const ids: string[] = [];
    for (const name of await readdir(join(this.home, "machines")).catch(() => [])) {
      try {
        ids.push(JSON.parse(await readFile(join(this.home, "machines", name, "machine.json"), "utf8")).id);
      } catch {
        // a damaged machine of a test
      }
    }
    return ids;
  }
}

async function collect(child: ChildProcessWithoutNullStreams): Promise<Result> {
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  return await new Promise((resolveResult, reject) => {
    child.once("error", reject);
    child.once("close", (status, signal) =>
      resolveResult({ status: status ?? (signal === null ? -1 : 128), stdout, stderr }),
    );
  });
}

/** The test images are read-only, so that hard links serve every installation. */
async function copyImages(home: string, names: readonly string[]): Promise<void> {
  const cache = join(process.env.SKEP_TEST_HOME ?? join(homedir(), ".cache/skep-test"), "images");
  const images = join(home, "images");
  await mkdir(images, { mode: 0o755 });
  for (const arch of await readdir(join(cache, "refs"))) {
    for (const name of names) {
      const ref = join("refs", arch, `${name}.json`);
      const text = await readFile(join(cache, ref), "utf8").catch(() => undefined);
      if (text === undefined) continue;
      const directory = (JSON.parse(text).digest as string).replace("sha256:", "");
      await mkdir(join(images, "refs", arch), { recursive: true, mode: 0o755 });
      await cp(join(cache, ref), join(images, ref));
      await mkdir(join(images, directory), { recursive: true, mode: 0o755 });
      for (const file of await readdir(join(cache, directory))) {
        await link(join(cache, directory, file), join(images, directory, file));
      }
    }
  }
}

/** Polls until something holds; the tests' one way to wait. Fails after two minutes. */
export async function eventually(
  holds: () => boolean | Promise<boolean>,
  message: () => string,
  limits: number | { limitMs?: number | undefined; pauseMs?: number } = {},
): Promise<void> {
  const { limitMs = 120_000, pauseMs = 50 } = typeof limits === "number" ? { limitMs: limits } : limits;
  const until = Date.now() + limitMs;
  while (!(await holds())) {
    if (Date.now() > until) assert.fail(message());
    await sleep(pauseMs);
  }
}
