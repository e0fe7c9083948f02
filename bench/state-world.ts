/** The installation that `npm run bench:state` measures, and the script beside it. Nothing of either is left. */
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { basename, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Machine } from "@skep/api/schemas";
import { processArguments, processStartTime, runtimeDirectory } from "@skep/base";
import { build } from "esbuild";
import { timed } from "./measure.ts";
import type { Pair } from "./state-source.ts";

const house = resolve(import.meta.dirname, "..");
const node = process.execPath;

/** What the script has told, and its time from its start to its end. */
export interface Told {
  wallMs: number;
  /** Of a copy: from the beginning of its own work. */
  readyMs?: number;
}

export class World implements AsyncDisposable {
  readonly base: string;
  readonly home: string;
  /** On tmpfs. */
  readonly memory: string;
  readonly env: NodeJS.ProcessEnv;
  /** Of all rounds, and of those in which something boots. */
  readonly rounds: { all: number; cold: number };
  /** How long a guest is left alone before it counts as idle; and before its memory is looked at. */
  readonly idleMs = 3000;
  readonly memoryIdleMs = 20_000;
  /** Made by the first part that wants it. */
  pair: Promise<Pair> | undefined;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  #ending: Promise<void> | undefined;

  private constructor(base: string, rounds: { all: number; cold: number }) {
    this.base = base;
    this.home = join(base, "home");
    this.memory = join("/dev/shm", basename(base));
    this.rounds = rounds;
    const own = { SKEP_HOME: this.home, SKEP_RUNTIME_DIR: join(base, "run"), HOME: join(base, "user") };
    const others = { SKEP_HOST: undefined, SKEP_TOKEN: undefined, XDG_CONFIG_HOME: undefined };
    // Templates are made when they are asked for, and not in the background of what is measured.
    this.env = { ...process.env, ...others, ...own, SKEP_TEMPLATES: "asked", NO_COLOR: "1" };
  }

  /** An empty place; call `prepare` before anything else, and dispose of it also where that fails. */
  static async make(rounds: { all: number; cold: number }): Promise<World> {
    return new World(await mkdtemp("/tmp/skep-bench-"), rounds);
  }

  /** Builds the command and the script, and takes the image from the tests' cache. */
  async prepare(): Promise<void> {
    await chmod(this.base, 0o711); // QEMU runs as its own user where we are root
    await mkdir(this.home, { mode: 0o711 });
    for (const path of [join(this.base, "user"), this.memory]) await mkdir(path);
    const images = join(process.env.SKEP_TEST_HOME ?? join(homedir(), ".cache/skep-test"), "images");
    try {
      await timed(["cp", "-al", images, join(this.home, "images")], process.env);
    } catch {
      await cp(images, join(this.home, "images"), { recursive: true }).catch(() => undefined); // then it is built
    }
    await timed([node, "--conditions=skep-source", join(house, "scripts/build.ts"), "--cli"], process.env);
    await build({
      entryPoints: [join(house, "bench/state-script.ts")],
      outfile: join(this.base, "script.mjs"),
      bundle: true,
      platform: "node",
      format: "esm",
      target: "node24",
      conditions: ["skep-source"],
      logLevel: "warning",
    });
    await this.skep("image", "build", "debian-12");
  }

  /** Runs the command, which ends when it is done. */
  async skep(...args: string[]): Promise<{ ms: number; stdout: string }> {
    this.#checkGoesOn();
    return await this.#skep(...args);
  }

  #skep(...args: string[]): Promise<{ ms: number; stdout: string }> {
    const program = join(house, "build/skep/dist/skep.js");
    return timed([node, "--disable-warning=ExperimentalWarning", program, ...args], this.env);
  }

  /** What is just being measured must not start anything again. */
  #checkGoesOn(): void {
    if (this.#ending !== undefined) throw new Error("it was cut off");
  }

  async script<T extends object>(verb: string, ...paths: string[]): Promise<Told & T> {
    this.#checkGoesOn();
    const { ms, stdout } = await timed([node, join(this.base, "script.mjs"), verb, ...paths], this.env);
    return { ...JSON.parse(stdout), wallMs: ms };
  }

  async machine(name: string): Promise<Machine> {
    return JSON.parse((await this.skep("status", name, "--json")).stdout);
  }

  /** The directory of a machine's sockets. */
  runtimeOf({ id }: Pick<Machine, "id">): string {
    return join(runtimeDirectory(this.home, this.env), id.replaceAll("-", "").slice(0, 8), "qemu");
  }

  /** A Debian guest that has booted and done all that it does at its first boot. */
  async guest(name: string, memoryMiB: number): Promise<Machine> {
    const size = ["--memory", `${memoryMiB}M`];
    await this.skep("new", name, "--image", "debian-12", ...size, "--no-user-keys", "--cold", "--wait");
    await this.skep("exec", name, "--", "cloud-init", "status", "--wait");
    await sleep(this.idleMs);
    return await this.machine(name);
  }

  onEnd(cleanup: () => Promise<unknown>): void {
    this.#cleanups.push(cleanup);
  }

  /** Once; whoever else wants it waits for it. */
  [Symbol.asyncDispose](): Promise<void> {
    this.#ending ??= this.#end();
    return this.#ending;
  }

  async #end(): Promise<void> {
    for (const cleanup of this.#cleanups.reverse()) await cleanup().catch((error) => console.error(error));
    await this.#skep("rm", "--all", "--force").catch(() => undefined);
    await this.#skep("daemon", "stop").catch(() => undefined);
    await this.#endProcesses();
    const machines = join(this.home, "machines");
    for (const name of await readdir(machines).catch(() => [])) {
      const text = await readFile(join(machines, name, "machine.json"), "utf8").catch(() => "{}");
      const { id = "" } = JSON.parse(text) as { id?: string };
      if (id !== "") await rm(`/dev/shm/skep-${id.slice(0, 8)}`, { recursive: true, force: true });
    }
    // What is kept of states, by a skepd that could not end by itself.
    const states = await readdir(join(this.home, "states")).catch(() => []);
    await removeShared((entry) => states.some((state) => entry.endsWith(`-${state}`)));
    const frozen = new Set(await this.#frozen());
    await removeShared((entry) => frozen.has(entry));
    for (const path of [this.memory, this.base])
      await rm(path, { recursive: true, force: true, maxRetries: 3 });
  }

  /** Frozen machines of this home on tmpfs. */
  async #frozen(): Promise<string[]> {
    const names = (await readdir("/dev/shm")).filter((name) => name.startsWith("skep-frozen-"));
    const texts = names.map((name) => readFile(`/dev/shm/${name}/record.json`, "utf8").catch(() => "{}"));
    const homes = (await Promise.all(texts)).map((text) => (JSON.parse(text) as { home?: string }).home);
    return names.filter((_, at) => homes[at] === this.home);
  }

  /** Whatever is named after our directories: each QEMU is, on both sides. */
  async #endProcesses(): Promise<void> {
    for (const name of await readdir("/proc")) {
      const pid = Number(name);
      if (!Number.isInteger(pid) || pid === process.pid) continue;
      const isOurs = processArguments(pid)?.some((word) => word.includes(`${this.base}/`)) === true;
      if (!isOurs && pid !== (await this.#daemonPid())) continue;
      const startTime = processStartTime(pid);
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        continue; // it has ended by itself
      }
      while (processStartTime(pid) === startTime) await sleep(20);
    }
  }

  async #daemonPid(): Promise<number | undefined> {
    const path = join(runtimeDirectory(this.home, this.env), "skepd.json");
    const text = await readFile(path, "utf8").catch(() => "{}");
    const { pid, startTime } = JSON.parse(text) as { pid?: number; startTime?: string };
    return pid !== undefined && processStartTime(pid) === startTime ? pid : undefined;
  }
}

/** Removes what is on tmpfs by those names. */
export async function removeShared(isMeant: (name: string) => boolean): Promise<void> {
  for (const name of (await readdir("/dev/shm")).filter(isMeant)) {
    await rm(join("/dev/shm", name), { recursive: true, force: true });
  }
}
