/** What is measured in `npm run bench:objects`, each a process of its own on the same disk. */
import { type ChildProcess, fork, spawn } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openAccounts } from "@skep/accounts";
import { freePort } from "@skep/base/testing";
import { passingBytesEnvironment, passingBytesFlags } from "@skep/daemon";
import { startRadosgw } from "@skep/objects/radosgw";
import { SigningKeys } from "@skep/sigv4";
import type { Job, Outcome, Task } from "./objects-client.ts";
import { call, type Endpoint, Line } from "./objects-wire.ts";

const house = resolve(import.meta.dirname, "..");
const source = ["--conditions=skep-source", "--disable-warning=ExperimentalWarning"];
const host = "127.0.0.1";
const bucket = "bench";

export interface Side extends AsyncDisposable {
  endpoint: Endpoint;
  pid?: number;
}

/** The storage process as it is installed, from build/skep; with $SKEP_BENCH_SOURCE from source. */
export async function startStorage(base: string): Promise<Side & { pid: number }> {
  const home = join(base, "home");
  await mkdir(home, { mode: 0o700 });
  const port = await freePort();
  const config = { version: 1, up: true, http: true, listen: `${host}:${port}` };
  await writeFile(join(home, "storage.json"), JSON.stringify(config));
  const accounts = openAccounts({ home });
  const { key, secret } = accounts.createKey({ account: accounts.root().id });
  accounts[Symbol.dispose]();
  const bundle = join(house, "build/skep/dist/storaged.js");
  const isSource = process.env.SKEP_BENCH_SOURCE !== undefined;
  const main = !isSource ? [bundle] : [...source, join(house, "apps/storaged/src/main.ts")];
  const program = [...passingBytesFlags, ...main];
  const child = spawn(process.execPath, [...program, "--home", home, "--foreground"], {
    env: {
      ...process.env,
      ...passingBytesEnvironment,
      SKEP_HOME: home,
      SKEP_RUNTIME_DIR: join(base, "run"),
    },
    stdio: ["ignore", "ignore", "inherit"],
  });
  const credentials = { accessKeyId: key.accessKeyId, secret };
  const endpoint = { host, port, bucket, credentials, region: "us-east-1" };
  await makeBucket(endpoint, child);
  return { endpoint, pid: child.pid as number, [Symbol.asyncDispose]: () => end(child) };
}

export async function startGateway(parent: string): Promise<Side> {
  const radosgw = await startRadosgw({ parent, blockBytes: 32 * 1024 ** 3 });
  const { credentials, region } = radosgw;
  const endpoint = { host, port: Number(new URL(radosgw.endpoint).port), bucket, credentials, region };
  await makeBucket(endpoint);
  return { endpoint, [Symbol.asyncDispose]: () => radosgw[Symbol.asyncDispose]() };
}

/** node:http with nothing behind it. */
export async function startPlain(directory: string): Promise<Side> {
  const child = spawn(process.execPath, [...source, join(house, "bench/objects-plain.ts"), directory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const port = Number(await new Promise((said) => child.stdout.once("data", said)));
  const credentials = { accessKeyId: "none", secret: "none" };
  const endpoint = { host, port, bucket, credentials, region: "us-east-1" };
  return { endpoint, [Symbol.asyncDispose]: () => end(child) };
}

/** The process that sends the requests; the same for all sides. */
export class Client implements AsyncDisposable {
  readonly #child: ChildProcess = fork(join(house, "bench/objects-client.ts"), { execArgv: source });

  /** Milliseconds. */
  run({ endpoint }: Side, task: Task): Promise<number> {
    return new Promise((done, failed) => {
      this.#child.once("message", (outcome: Outcome) => {
        if ("ms" in outcome) done(outcome.ms);
        else failed(new Error(`${endpoint.host}:${endpoint.port}: ${outcome.error}`));
      });
      this.#child.send({ endpoint, task } satisfies Job);
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return end(this.#child);
  }
}

/** MB resident now, and at most since the last call. */
export async function residentMB(pid: number): Promise<{ now: number; most: number }> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => Number(new RegExp(`${name}:\\s+(\\d+)`).exec(status)?.[1]) / 1024;
  await writeFile(`/proc/${pid}/clear_refs`, "5"); // the highest mark begins anew
  return { now: field("VmRSS"), most: field("VmHWM") };
}

async function makeBucket(endpoint: Endpoint, child?: ChildProcess): Promise<void> {
  for (let attempt = 0; ; attempt += 1) {
    if (child !== undefined && child.exitCode !== null) throw new Error("storaged ended");
    try {
      const line = await Line.open(endpoint);
      const { status } = await line.send(call(endpoint, "PUT", "", new SigningKeys()));
      line.close();
      if (status !== 200) throw new Error(`making a bucket answered ${status}`);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ECONNREFUSED" || attempt > 600) throw error;
      await sleep(50);
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  await ended;
}
