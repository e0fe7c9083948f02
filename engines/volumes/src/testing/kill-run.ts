import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { NbdClient } from "@skep/nbd";
import type { ForeignOptions } from "@skep/objects/foreign";
import type { CreateVolume, Durability } from "../types.ts";
import { NumberedUnits, unitBytes } from "./numbered.ts";

const mib = 2 ** 20;
const sizeBytes = 48 * mib;
const units = sizeBytes / unitBytes;
const writers = 16;

export interface KillReport {
  kills: number;
  answered: number;
  flushes: number;
}

export interface KillOptions {
  kills: number;
  durability: Durability;
  /** Of an S3 that outlives the kills; without, an embedded store is killed with the volume. */
  foreign?: ForeignOptions;
  settings?: Partial<CreateVolume>;
}

/** Rounds of load over NBD, `kill -9` of the process that serves the volume, and a look at each byte of it. */
export async function killRounds(options: KillOptions): Promise<KillReport> {
  const directory = await mkdtemp("/tmp/skep-kill-");
  const report: KillReport = { kills: 0, answered: 0, flushes: 0 };
  const model = new NumberedUnits(units);
  try {
    for (; report.kills < options.kills; report.kills += 1) {
      if (randomInt(4) === 0) await killAtStart(directory, options);
      await using server = await Server.start(directory, options);
      await using client = await server.connect();
      await readAll(client, model);
      await loadAndKill(client, server, model, report);
    }
    await using server = await Server.start(directory, options);
    {
      await using client = await server.connect();
      await readAll(client, model);
    }
    assert.deepEqual(await server.check(), []);
  } finally {
    await rm(directory, { recursive: true, force: true, maxRetries: 3 });
  }
  return report;
}

/** Recovery, too, may be cut off anywhere. */
async function killAtStart(directory: string, options: KillOptions): Promise<void> {
  await using server = new Server(directory, options);
  await sleep(randomInt(1500));
  await server.kill();
}

async function readAll(client: NbdClient, model: NumberedUnits): Promise<void> {
  for (let at = 0; at < sizeBytes; at += mib) model.settle(at / unitBytes, await client.read(at, mib));
}

/** Each writer has units of its own, for NBD promises nothing of writes that overlap. */
async function loadAndKill(
  client: NbdClient,
  server: Server,
  model: NumberedUnits,
  report: KillReport,
): Promise<void> {
  const wanted = report.answered + 20 + randomInt(3000);
  let isKilled = false;
  const write = async (writer: number) => {
    while (!isKilled) {
      const { first, count } = place(writer);
      const kind = randomInt(12) === 0 ? "zeroes" : "data";
      const fua = randomInt(20) === 0;
      const data = model.begin(first, count, kind);
      try {
        if (kind === "data") await client.write(first * unitBytes, data, { fua });
        else await client.writeZeroes(first * unitBytes, data.length, { fua });
        model.answered(first, count);
        report.answered += 1;
        if (randomInt(32) === 0) {
          await client.flush();
          report.flushes += 1;
        }
      } catch (error) {
        if (!isKilled) throw error; // only the kill may cut a request off
      }
    }
  };
  const kill = async () => {
    while (report.answered < wanted) await sleep(1 + randomInt(5));
    isKilled = true;
    await server.kill();
  };
  await Promise.all([kill(), ...Array.from({ length: writers }, (_, writer) => write(writer))]);
}

/** Runs of units in the writer's share, or one in the last blocks, whose units belong to many writers. */
function place(writer: number): { first: number; count: number } {
  const common = 64 * writers;
  if (randomInt(4) === 0) return { first: units - common + randomInt(64) * writers + writer, count: 1 };
  const share = Math.floor((units - common) / writers);
  const count = randomInt(8) === 0 ? 1 + randomInt(256) : 1 + randomInt(16);
  return { first: writer * share + randomInt(share - count), count };
}

class Server implements AsyncDisposable {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #ended: Promise<unknown>;
  readonly #lines: AsyncIterator<string>;
  readonly #socket: string;

  constructor(directory: string, { durability, foreign, settings }: KillOptions) {
    const request = { id: "vol-0123456789abcdef0", sizeBytes, durability, ...settings };
    const program = fileURLToPath(new URL("./kill-child.ts", import.meta.url));
    const flags = process.execArgv.filter((one) => !one.startsWith("--test"));
    const args = [directory, JSON.stringify(request), JSON.stringify(foreign ?? null)];
    this.#socket = join(directory, "volume.sock");
    this.#child = spawn(process.execPath, [...flags, program, ...args], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#child.stdin.on("error", () => {}); // it may be dead
    this.#ended = once(this.#child, "close");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static async start(directory: string, options: KillOptions): Promise<Server> {
    const server = new Server(directory, options);
    try {
      assert.equal(await server.#line(), "ready");
      return server;
    } catch (error) {
      await server.kill();
      throw error;
    }
  }

  connect(): Promise<NbdClient> {
    return NbdClient.connect({ uri: `nbd+unix:///?socket=${this.#socket}` });
  }

  /** Closes the volume, and finds what is wrong with it. */
  async check(): Promise<unknown> {
    this.#child.stdin.write("check\n");
    return JSON.parse((await this.#line()).slice("checked ".length));
  }

  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  async #line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert.ok(done !== true, "the server has ended by itself");
    return value;
  }
}
