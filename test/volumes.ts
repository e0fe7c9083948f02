/** Volumes of an installation, for their tests: through the command, and over NBD with other people's clients. */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { Volume } from "@skep/api/schemas";
import { run } from "@skep/base";
import { callJson } from "@skep/daemon";
import { Installation, type Result, type SkepOptions } from "./support.ts";

export const mebibyte = 1024 ** 2;

interface Served {
  socket: string;
  export: string;
  sizeBytes: number;
}

export class VolumeHost extends AsyncDisposableStack {
  readonly installation: Installation;

  constructor(installation: Installation) {
    super();
    this.installation = this.use(installation);
  }

  static async make(images: readonly string[] = []): Promise<VolumeHost> {
    return new VolumeHost(await Installation.make(images));
  }

  vol(args: readonly string[], options?: SkepOptions): Promise<Result> {
    return this.installation.skep(["vol", ...args], options);
  }

  /** Its id. */
  async add(...args: string[]): Promise<string> {
    const { stdout } = await this.vol(["add", "-q", ...args]);
    assert.match(stdout, /^vol-[0-9a-f]{17}\n$/);
    return stdout.trim();
  }

  async list(): Promise<Volume[]> {
    return JSON.parse((await this.vol(["ls", "--json"])).stdout);
  }

  async show(volume: string): Promise<Volume> {
    return JSON.parse((await this.vol(["show", volume, "--json"])).stdout);
  }

  /** What a command that has to fail says. */
  async refusal(...args: string[]): Promise<string> {
    const { stderr, status } = await this.vol(args, { status: null });
    assert.notEqual(status, 0, `skep vol ${args.join(" ")} did not fail`);
    return stderr;
  }

  /** As skepd asks storaged. */
  ask<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
    const call = body === undefined ? { method, path } : { method, path, body };
    return callJson<T>(join(this.installation.runtime, "storaged.sock"), call);
  }

  /** Serves a volume as for a machine, and gives its address. */
  async serve(volume: string, everyWriteFua = false): Promise<string> {
    const request = { machine: "test", owner: null, everyWriteFua };
    const served = await this.ask<Served>("POST", `/volumes/${volume}/serve`, request);
    assert.equal(served.export, (await this.show(volume)).id);
    return `nbd+unix:///${served.export}?socket=${served.socket}`;
  }

  async release(volume: string): Promise<void> {
    await this.ask("POST", `/volumes/${volume}/release`, { machine: "test" });
  }

  async directory(): Promise<string> {
    const directory = join(this.installation.environment.HOME as string, randomBytes(4).toString("hex"));
    await mkdir(directory);
    return directory;
  }

  /** A raw disk with random bytes here and there, and holes between. */
  async disk(sizeBytes: number): Promise<string> {
    const path = join(await this.directory(), "disk.raw");
    await using file = await open(path, "wx");
    await file.truncate(sizeBytes);
    for (const [part, length] of [
      [0, 4096],
      [0.25, 1_000_000],
      [0.5, 300],
      [0.75, 65_536],
    ] as const) {
      await file.write(randomBytes(length), 0, length, Math.floor(sizeBytes * part));
    }
    await file.write(randomBytes(512), 0, 512, sizeBytes - 512);
    return path;
  }

  /** The same bytes, whatever the formats. */
  async same(one: string, other: string): Promise<void> {
    const { stdout } = await run("qemu-img", ["compare", one, other]);
    assert.match(stdout, /Images are identical/);
  }
}

/** A client that connects again by itself, as a guest's QEMU does. */
export class PatientClient implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  #output = "";

  constructor(address: string) {
    const [, name, path] = /^nbd\+unix:\/\/\/(.*)\?socket=(.*)$/.exec(address) as RegExpExecArray;
    const options = `driver=raw,file.driver=nbd,file.path=${path},file.export=${name},file.reconnect-delay=600`;
    this.#child = spawn("qemu-io", ["--image-opts", options], { stdio: "pipe" });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.#output += text;
      });
    }
  }

  /** Runs a command of qemu-io and returns what it has said, once it asks for the next one. */
  async command(line: string): Promise<string> {
    await this.#prompt(0);
    const from = this.#output.length;
    this.#child.stdin.write(`${line}\n`);
    await this.#prompt(from);
    const said = this.#output.slice(from);
    assert.doesNotMatch(said, /failed|error/i);
    return said;
  }

  async #prompt(from: number): Promise<void> {
    while (!this.#output.includes("qemu-io> ", from)) {
      assert.equal(this.#child.exitCode, null, this.#output);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = new Promise((resolve) => this.#child.once("close", resolve));
    this.#child.kill("SIGKILL");
    await ended;
  }
}
