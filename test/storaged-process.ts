/** A storaged that a test starts and kills itself, and its S3 over HTTP by the barest of clients. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openAccounts } from "@skep/accounts";
import type { Storage } from "@skep/api/schemas";
import { answers, storageSocket } from "@skep/base";
import { callJson } from "@skep/daemon";
import { type Credentials, signRequest } from "@skep/sigv4";
import { type Installation, root } from "./support.ts";

export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: Buffer;
  /** S3's error code, where the answer is an error. */
  code: string | undefined;
}

export interface Sent {
  headers?: Record<string, string>;
  body?: Uint8Array;
  /** Instead of a body at once: pieces as they come, signed as UNSIGNED-PAYLOAD. */
  stream?: { sizeBytes: number; pieces: AsyncIterable<Uint8Array> };
}

/** What the process is made to find damaged, or left over. */
interface Check {
  complete: boolean;
  damaged: unknown[];
  orphans: number;
}

export class StoragedProcess implements AsyncDisposable {
  readonly #skep: Installation;
  readonly #credentials: Credentials;
  #agent = new Agent({ keepAlive: true });
  #child: ChildProcess | undefined;
  #endpoint = new URL("http://127.0.0.1:0");

  private constructor(skep: Installation, credentials: Credentials) {
    this.#skep = skep;
    this.#credentials = credentials;
  }

  /** Started, on plain HTTP. Nobody watches it. */
  static async start(skep: Installation): Promise<StoragedProcess> {
    const config = { version: 1, up: true, http: true, listen: "127.0.0.1:0" };
    await writeFile(join(skep.home, "storage.json"), JSON.stringify(config));
    const accounts = openAccounts({ home: skep.home });
    const { key, secret } = accounts.createKey({ account: accounts.root().id });
    accounts[Symbol.dispose]();
    const storaged = new StoragedProcess(skep, { accessKeyId: key.accessKeyId, secret });
    await storaged.start();
    return storaged;
  }

  get pid(): number {
    return this.#child?.pid as number;
  }

  /** Begins to start it; it may be killed before it is ready. */
  spawn(): void {
    const main = join(root, "apps/storaged/src/main.ts");
    const args = ["--conditions=skep-source", main, "--home", this.#skep.home, "--foreground"];
    const log = openSync(join(this.#skep.home, "storaged.log"), "a");
    this.#child = spawn(process.execPath, args, {
      env: this.#skep.environment,
      stdio: ["ignore", log, log],
    });
    closeSync(log);
  }

  async start(): Promise<void> {
    this.spawn();
    const socket = storageSocket(this.#skep.home, this.#skep.environment);
    while (!(await answers(socket))) {
      assert.equal(this.#child?.exitCode, null, "storaged ended by itself");
      await sleep(20);
    }
    const { endpoint } = await this.#ask<Storage>("GET", "/status");
    this.#endpoint = new URL(endpoint as string);
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const closed = once(child, "close");
    child.kill("SIGKILL");
    await closed;
    this.#agent.destroy();
    this.#agent = new Agent({ keepAlive: true });
  }

  /** Every byte that is stored, compared with its checksums. */
  check(): Promise<Check> {
    return this.#ask<Check>("POST", "/check");
  }

  async residentMB(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, "utf8");
    return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  /** CPU time of all its threads, user and system, in hundredths of a second. */
  async cpuTicks(): Promise<number> {
    const stat = await readFile(`/proc/${this.pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return Number(fields[11]) + Number(fields[12]);
  }

  #ask<T>(method: "GET" | "POST", path: string): Promise<T> {
    return callJson<T>(storageSocket(this.#skep.home, this.#skep.environment), { method, path });
  }

  /** One signed request. Rejects where no whole answer came: then nothing is known of its effect. */
  async send(method: string, target: string, { headers = {}, body, stream }: Sent = {}): Promise<Answer> {
    const sizeBytes = stream?.sizeBytes ?? body?.length;
    const given = {
      ...headers,
      host: this.#endpoint.host,
      ...(sizeBytes === undefined ? {} : { "content-length": String(sizeBytes) }),
    };
    const payload =
      stream !== undefined
        ? "UNSIGNED-PAYLOAD"
        : createHash("sha256")
            .update(body ?? "")
            .digest("hex");
    const { headers: added } = signRequest({ method, target, headers: given }, this.#credentials, {
      region: "us-east-1",
      now: Date.now(),
      payload,
    });
    const { hostname, port } = this.#endpoint;
    return new Promise((resolve, reject) => {
      const sent = request(
        { hostname, port, method, path: target, headers: { ...given, ...added }, agent: this.#agent },
        (response) => {
          const pieces: Buffer[] = [];
          response.on("data", (piece: Buffer) => pieces.push(piece));
          response.once("error", reject);
          response.once("end", () => {
            const whole = Buffer.concat(pieces);
            const { statusCode: status = 0, headers: received } = response;
            const code = status < 300 ? undefined : /<Code>(\w+)</.exec(whole.toString("latin1"))?.[1];
            resolve({ status, headers: received, body: whole, code });
          });
        },
      );
      sent.once("error", (error) =>
        reject(new Error(`${method} ${target}: ${error.message}`, { cause: error })),
      );
      if (stream === undefined) sent.end(body);
      else void write(sent, stream.pieces).catch(reject);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    this.#agent.destroy();
  }
}

/** Ends early where the server has answered before the end. */
async function write(to: ReturnType<typeof request>, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  let isOver = false;
  const over = new Promise<void>((resolve) => {
    for (const name of ["response", "close"]) to.once(name, () => resolve());
  }).then(() => {
    isOver = true;
  });
  for await (const piece of pieces) {
    if (isOver || to.destroyed) break;
    if (to.write(piece)) continue;
    await Promise.race([once(to, "drain"), over]);
  }
  if (!isOver) to.end();
}
