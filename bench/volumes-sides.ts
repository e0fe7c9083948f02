/** The processes that `npm run bench:volumes` measures. All end with this one, however it ends. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { answers } from "@skep/base";
import { passingBytesEnvironment, passingBytesFlags } from "@skep/daemon";
import { timed } from "./measure.ts";
import type { Endpoint } from "./objects-wire.ts";
import type { Calls } from "./volumes-host.ts";

const house = resolve(import.meta.dirname, "..");

/** A device over NBD. */
export interface Side extends AsyncDisposable {
  readonly uri: string;
}

export const uriOf = (socket: string, name = "") => `nbd+unix:///${name}?socket=${socket}`;

/** One process of volumes-host.ts, started with storaged's flags. */
export class Host implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();
  #calls = 0;

  constructor(options: { profile?: string | undefined } = {}) {
    const program = [...nodeWords(options.profile), "--expose-gc", join(house, "bench/volumes-host.ts")];
    this.#child = spawn("setpriv", ["--pdeathsig", "KILL", ...program], {
      env: { ...process.env, ...passingBytesEnvironment },
      stdio: ["ignore", "ignore", "inherit", "ipc"],
    });
    this.#child.on("message", (answer: { id: number; value: never } | { id: number; error: string }) => {
      const call = this.#waiting.get(answer.id);
      this.#waiting.delete(answer.id);
      if ("error" in answer) call?.reject(new Error(answer.error));
      else call?.resolve(answer.value);
    });
    const ended = () => {
      for (const { reject } of this.#waiting.values()) reject(new Error("the measured process has ended"));
      this.#waiting.clear();
    };
    this.#child.once("error", ended).once("exit", ended);
  }

  call<Name extends keyof Calls>(name: Name, ...args: Parameters<Calls[Name]>): ReturnType<Calls[Name]> {
    const id = this.#calls++;
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, name, args }, (error) => error !== null && reject(error));
    });
    return answer as ReturnType<Calls[Name]>;
  }

  /** As the kernel does when memory runs out. */
  async kill(): Promise<void> {
    await end(this.#child, "SIGKILL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.connected && this.#child.exitCode === null) {
      const ended = new Promise((done) => this.#child.once("exit", done));
      this.call("exit").catch(() => undefined);
      await Promise.race([ended, sleep(30_000, undefined, { ref: false })]);
    }
    await this.kill();
  }
}

export function startMemory(directory: string, sizeBytes: number, profile?: string): Promise<Side> {
  const socket = join(directory, "skep.sock");
  const program = [...nodeWords(profile), join(house, "bench/volumes-memory.ts")];
  const env = { ...process.env, ...passingBytesEnvironment };
  return startServer(socket, [...program, socket, String(sizeBytes)], env);
}

/** `profile`: a directory to which it writes what its time went to (V8's .cpuprofile). */
function nodeWords(profile: string | undefined): string[] {
  const profiling = profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`];
  const source = ["--conditions=skep-source", "--disable-warning=ExperimentalWarning"];
  return [process.execPath, ...passingBytesFlags, ...source, ...profiling];
}

export function startNbdkit(directory: string, sizeBytes: number): Promise<Side> {
  const socket = join(directory, "nbdkit.sock");
  return startServer(socket, ["nbdkit", "-f", "-U", socket, "memory", String(sizeBytes)]);
}

/** An image or raw file, or null-co. */
export async function startQemuNbd(
  directory: string,
  image: { path: string; format: "qcow2" | "raw"; cache: "writeback" | "none" } | { sizeBytes: number },
): Promise<Side> {
  const socket = join(directory, `qemu-nbd-${"path" in image ? image.format : "null"}.sock`);
  const what =
    "path" in image
      ? [`--format=${image.format}`, `--cache=${image.cache}`, "--discard=unmap", image.path]
      : ["--image-opts", `driver=null-co,size=${image.sizeBytes},read-zeroes=on`];
  return startServer(socket, ["qemu-nbd", "--persistent", "--socket", socket, ...what]);
}

/** A new qcow2 file. */
export async function startQcow2(directory: string, sizeBytes: number): Promise<Side> {
  const path = join(directory, "disk.qcow2");
  await timed(["qemu-img", "create", "-q", "-f", "qcow2", path, String(sizeBytes)], process.env);
  return startQemuNbd(directory, { path, format: "qcow2", cache: "writeback" });
}

export type S3backerMode = "synchronous" | "write-back";

/**
 * s3backer has its blocks of 64 KiB in a file of FUSE, which qemu-nbd serves past the kernel's cache. Its
 * own cache of blocks, in memory, holds the whole range. A prefix is one volume.
 */
export async function startS3backer(
  directory: string,
  { host, port, bucket, credentials }: Endpoint,
  { prefix, sizeBytes, mode }: { prefix: string; sizeBytes: number; mode: S3backerMode },
): Promise<Side & { drained(): Promise<void> }> {
  await using opening = new AsyncDisposableStack();
  const mount = join(directory, `mount-${prefix}`);
  const access = join(directory, "s3backer.key");
  await mkdir(mount, { recursive: true });
  await writeFile(access, `${credentials.accessKeyId}:${credentials.secret}\n`, { mode: 0o600 });
  const blockBytes = 64 * 1024;
  const flags = {
    accessFile: access,
    baseURL: `http://${host}:${port}/`,
    prefix,
    blockSize: blockBytes,
    size: sizeBytes,
    blockCacheSize: Math.ceil(sizeBytes / blockBytes),
  };
  const words = Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
  // What is synchronous must not wait to see whether the same block is written again.
  const sync = [
    "--blockCacheSync",
    "--blockCacheWriteDelay=0",
    "--minWriteDelay=0",
    "--md5CacheSize=0",
    "--md5CacheTime=0",
  ];
  const modeFlags = mode === "synchronous" ? sync : [];
  const common = ["--listBlocks", "--directIO", "--quiet", "-f"];
  const s3backer = run(["s3backer", ...words, ...modeFlags, ...common, bucket, mount]);
  const file = join(mount, "file");
  let said = "";
  s3backer.stderr?.on("data", (text) => {
    said = `${said}${text}`.slice(-2000);
  });
  opening.defer(() => unmount(mount, s3backer));
  while (!existsSync(file)) {
    if (s3backer.exitCode !== null) throw new Error(`s3backer ended: ${said}`);
    await sleep(20);
  }
  const side = opening.use(await startQemuNbd(directory, { path: file, format: "raw", cache: "none" }));
  const all = opening.move();
  return {
    uri: side.uri,
    /** Until no block of its cache waits to be put. */
    drained: async () => {
      const isClean = async () =>
        /^block_cache_dirty_ratio\s+0\.0000$/m.test(await readFile(join(mount, "stats"), "utf8"));
      while (!(await isClean())) await sleep(20);
    },
    [Symbol.asyncDispose]: () => all.disposeAsync(),
  };
}

/** What an interrupted run leaves mounted below a directory. */
export async function unmountAll(directory: string): Promise<void> {
  for (const line of (await readFile("/proc/self/mounts", "utf8")).split("\n")) {
    const mount = line.split(" ")[1];
    if (mount?.startsWith(`${directory}/`)) await timed(["umount", "--lazy", mount], process.env);
  }
}

/** Ends s3backer once what waits in its cache is in the store. */
async function unmount(mount: string, s3backer: ChildProcess): Promise<void> {
  const ended = new Promise((done) => s3backer.once("exit", done));
  if (s3backer.exitCode === null && s3backer.signalCode === null) {
    await new Promise((done) => spawn("umount", [mount], { stdio: "ignore" }).once("close", done));
    await Promise.race([ended, sleep(60_000, undefined, { ref: false })]);
  }
  await end(s3backer, "SIGKILL");
}

async function startServer(socket: string, command: readonly string[], env = process.env): Promise<Side> {
  const child = run(command, env);
  let said = "";
  child.stderr?.on("data", (text) => {
    said = `${said}${text}`.slice(-2000);
  });
  try {
    while (!(await answers(socket))) {
      if (child.exitCode !== null) throw new Error(`${command.join(" ")} ended: ${said}`);
      await sleep(20);
    }
  } catch (error) {
    await end(child, "SIGKILL");
    throw error;
  }
  return { uri: uriOf(socket), [Symbol.asyncDispose]: () => end(child, "SIGTERM") };
}

/** The kernel ends it when we die, however that comes. */
function run(command: readonly string[], env = process.env): ChildProcess {
  const words = ["--pdeathsig", "KILL", ...command];
  return spawn("setpriv", words, { env, stdio: ["ignore", "ignore", "pipe"] });
}

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill(signal);
  await ended;
}
