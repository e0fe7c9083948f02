/**
 * Engines without QEMU, for the faults that real ones cannot be made to show at will: work that
 * hangs until it is cancelled, output faster than its reader, an end in the middle of a creation.
 */
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { Duplex, PassThrough, Readable } from "node:stream";
import type { Machine, MachineRequest, MachineVolume, Port, PortRequest } from "@skep/api/schemas";
import { SkepError, type Work } from "@skep/base";
import type { ConsoleAttachment, ConsoleOptions, ExecRequest, ExecSession, LogOptions } from "@skep/machines";
import type { FastifyBaseLogger } from "fastify";
import type { MachineEngine } from "./engines.ts";
import type { Recover } from "./jobs.ts";
import { untilAborted } from "./testing-work.ts";

export { OneImage } from "./testing-images.ts";
export { DirectoryStates } from "./testing-states.ts";
export { MapStorage, noVolumes } from "./testing-storage.ts";

/** Says nothing. */
export const silentLog: FastifyBaseLogger = {
  level: "silent",
  fatal() {},
  error() {},
  warn() {},
  info() {},
  debug() {},
  trace() {},
  silent() {},
  child: () => silentLog,
};

function missing(name: string): SkepError {
  return new SkepError("MACHINE_NOT_FOUND", `machine "${name}" does not exist`, { status: 404 });
}

const suspension = {
  state: "st-0123456789abcdef0",
  at: new Date(0).toISOString(),
  populatedMiB: 64,
  storedBytes: 1024,
  pauseMs: 1,
  idle: false,
};

/** Machines are directories; nothing runs in them. User data `hang` makes a creation wait. */
export class DirectoryMachines implements MachineEngine {
  readonly #directory: string;
  readonly #states = new Map<string, Machine["state"]>();
  readonly #ports = new Map<string, Port[]>();
  readonly #volumes = new Map<string, MachineVolume[]>();
  /** What the last exec session was told, for tests to look at. */
  readonly execEvents: string[] = [];

  constructor(home: string) {
    this.#directory = join(home, "machines");
    mkdirSync(this.#directory, { recursive: true });
  }

  list(): Machine[] {
    return readdirSync(this.#directory)
      .sort()
      .map((name) => this.get(name));
  }

  get(name: string): Machine {
    if (!/^[a-z0-9-]+$/.test(name) || !existsSync(join(this.#directory, name))) throw missing(name);
    return {
      id: name,
      name,
      state: this.#states.get(name) ?? "stopped",
      reason: null,
      image: "tiny",
      imageDigest: "sha256:0",
      from: null,
      arch: "x86_64",
      cpus: 1,
      memoryMiB: 128,
      diskBytes: 0,
      firmware: "bios",
      accelerator: null,
      ports: this.#ports.get(name) ?? [],
      dataDisks: [],
      volumes: this.#volumes.get(name) ?? [],
      ssh: null,
      mac: "52:54:00:00:00:01",
      autostart: false,
      restart: { policy: "no", attempts: null },
      restarts: null,
      check: null,
      liveness: null,
      suspendAfterSeconds: null,
      idle: null,
      telnetPort: null,
      pid: null,
      ready: false,
      createdAt: new Date(0).toISOString(),
      startedAt: null,
      suspended: this.#states.get(name) === "suspended" ? suspension : null,
      directory: join(this.#directory, name),
      sockets: { console: "", control: "" },
    };
  }

  async create(request: MachineRequest, work: Work): Promise<Machine> {
    const path = join(this.#directory, request.name);
    if (existsSync(path)) {
      throw new SkepError("MACHINE_EXISTS", `machine "${request.name}" exists already`, { status: 409 });
    }
    mkdirSync(path);
    try {
      for (let step = 1; step <= 3; step += 1) work.report({ phase: "making", done: step, total: 3 });
      work.note(`made ${request.name}`);
      if (request.userData === "hang") await untilAborted(work.signal);
      if (request.userData === "fail")
        throw new SkepError("DISK_FULL", "the disk is full", { hint: "free some" });
      return this.get(request.name);
    } catch (error) {
      rmSync(path, { recursive: true });
      throw error;
    }
  }

  readonly recover: Recover = async ({ kind, subject }) => {
    if (kind !== "machine.create") return "finished";
    rmSync(join(this.#directory, subject), { recursive: true, force: true });
    return "undone";
  };

  setState(name: string, state: Machine["state"]): void {
    this.#states.set(name, state);
  }

  async start(name: string): Promise<Machine> {
    if (this.#states.get(name) === "suspended") {
      throw new SkepError("MACHINE_SUSPENDED", `machine "${name}" is suspended`, { status: 409 });
    }
    this.#states.set(name, "running");
    return this.get(name);
  }

  async stop(name: string): Promise<Machine> {
    this.#states.delete(name);
    return this.get(name);
  }

  restart(name: string): Promise<Machine> {
    return this.start(name);
  }

  async remove(name: string): Promise<void> {
    rmSync(this.get(name).directory, { recursive: true });
  }

  async edit(name: string): Promise<Machine> {
    return this.get(name);
  }

  async addPort(name: string, port: PortRequest): Promise<Port[]> {
    const ports = this.#ports.get(name) ?? [];
    ports.push({ hostAddress: "127.0.0.1", protocol: "tcp", automatic: port.hostPort === 0, ...port });
    this.#ports.set(name, ports);
    return ports;
  }

  async removePort(name: string, gone: { hostPort: number; protocol: string }): Promise<Port[]> {
    const left = (this.#ports.get(name) ?? []).filter(
      (port) => port.hostPort !== gone.hostPort || port.protocol !== gone.protocol,
    );
    this.#ports.set(name, left);
    return left;
  }

  async attachVolume(name: string, { volume: id, readOnly = false }: { volume: string; readOnly?: boolean }) {
    const volumes = this.#volumes.get(name) ?? [];
    const volume: MachineVolume = {
      id,
      role: "data",
      readOnly,
      sizeBytes: 4096,
      slot: volumes.length,
      device: null,
      detaching: false,
    };
    this.#volumes.set(name, [...volumes, volume]);
    return volume;
  }

  async detachVolume(name: string, id: string): Promise<void> {
    const left = (this.#volumes.get(name) ?? []).filter((volume) => volume.id !== id);
    this.#volumes.set(name, left);
  }

  async volumeResized(): Promise<void> {}

  machineOf(id: string): string | undefined {
    return [...this.#volumes].find(([, volumes]) => volumes.some((volume) => volume.id === id))?.[0];
  }

  async stats(name: string) {
    return {
      name,
      time: new Date().toISOString(),
      cpuSeconds: 1,
      memoryResidentBytes: 1,
      memoryMiB: 128,
      diskReadBytes: 0,
      diskWrittenBytes: 0,
      diskAllocatedBytes: 0,
      networkReceivedBytes: null,
      networkSentBytes: null,
    };
  }

  async screenshot(): Promise<Buffer> {
    return Buffer.from("89504e470d0a1a0a", "hex");
  }

  async qemuCommand(name: string): Promise<{ command: string[]; directories: string[] }> {
    return { command: ["qemu-system-x86_64", "-name", name], directories: [] };
  }

  async *logs(name: string, { follow, signal }: LogOptions): AsyncIterable<Uint8Array> {
    yield Buffer.from(`log of ${name}\n`);
    if (follow === true && signal !== undefined) await untilAborted(signal);
  }

  async console(name: string, { mode }: ConsoleOptions): Promise<ConsoleAttachment> {
    this.get(name);
    const output = new PassThrough();
    output.write("login: ");
    const listeners: ((reason: string) => void)[] = [];
    return {
      writable: mode !== "watch",
      output,
      write(data) {
        output.write(data); // an echo
        if (!Buffer.from(data).includes("halt")) return;
        output.end();
        for (const listener of listeners) listener("the machine has stopped");
      },
      onEnd: (listener) => listeners.push(listener),
      close: () => output.destroy(),
    };
  }

  /** `cat` echoes, `yes` never ends, `exit N` ends with N, `wait` waits for a signal. */
  async exec(name: string, request: ExecRequest): Promise<ExecSession> {
    this.get(name);
    const [command = "", argument = "0"] = request.command;
    const { execEvents } = this;
    const exit = Promise.withResolvers<number>();
    const stdin = new PassThrough({ highWaterMark: 65_536 });
    let produced = 0;
    const stdout =
      command === "cat"
        ? stdin
        : command === "yes"
          ? new Readable({
              read() {
                produced += 65_536;
                this.push(Buffer.alloc(65_536, "y\n"));
              },
            })
          : Readable.from([]);
    if (command === "cat") stdin.once("end", () => exit.resolve(0));
    if (command === "exit") exit.resolve(Number(argument));
    return {
      transport: "agent",
      stdin,
      stdout,
      stderr: Readable.from(command === "exit" ? [Buffer.from("bye")] : []),
      exit: exit.promise,
      resize: (columns, rows) => execEvents.push(`resize ${columns}x${rows}`),
      signal(signal) {
        execEvents.push(`signal ${signal}`);
        exit.resolve(130);
      },
      close() {
        execEvents.push(`closed after ${produced > 50_000_000 ? "too much" : "little"}`);
        stdin.destroy();
        stdout.destroy();
      },
    };
  }

  async tunnel(): Promise<Duplex> {
    const echo = new PassThrough();
    return Duplex.from({ readable: echo, writable: echo });
  }

  async sshConfig(): Promise<string> {
    return this.list()
      .map(({ name }) => `Host ${name}.skep\n`)
      .join("");
  }

  usedImages(): Map<string, string[]> {
    return new Map([["sha256:0", this.list().map(({ name }) => name)]]);
  }

  async doctor() {
    return [{ name: "qemu", status: "ok" as const, detail: "not needed here", fix: null }];
  }
}
