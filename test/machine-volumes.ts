/** Machines in this process, on volumes that a real NBD server has: for the tests of machines' volumes. */
import assert from "node:assert/strict";
import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before } from "node:test";
import { newId, quietWork, run, SkepError } from "@skep/base";
import { ImageStore } from "@skep/images";
import { type MachineEvent, Machines, type VolumeAccess } from "@skep/machines";
import type { Message, ServeMessage } from "./machine-volumes-server.ts";
import { eventually, Installation, root } from "./support.ts";

type Call = Message extends infer M ? (M extends Message ? Omit<M, "call"> : never) : never;

const missing = (id: string) =>
  new SkepError("VOLUME_NOT_FOUND", `volume "${id}" does not exist`, { status: 404 });

async function withoutSnapshots(): Promise<never> {
  throw new Error("volumes that are files have no snapshots");
}

/** Volumes that are files, behind an NBD server in a process of its own. */
export class FileVolumes implements VolumeAccess {
  readonly #directory: string;
  readonly #volumes = new Map<string, { name: string | undefined; sizeBytes: number }>();
  readonly #calls = new Map<number, (error: string | undefined) => void>();
  #server: ChildProcess | undefined;
  /** What is open, and for whom. */
  readonly served = new Map<string, ServeMessage & { machine: string }>();
  /** Volumes that are said to be served, and are not. */
  readonly broken = new Set<string>();
  /** Called within `importImage`. */
  onImport: () => void = () => {};
  /** How often `ready` was asked for. */
  readyCalls = 0;

  constructor(directory: string) {
    this.#directory = directory;
  }

  get ids(): string[] {
    return [...this.#volumes.keys()];
  }

  path(id: string): string {
    return join(this.#directory, `${id}.raw`);
  }

  async resolve(nameOrId: string) {
    const found = [...this.#volumes].find(([id, { name }]) => id === nameOrId || name === nameOrId);
    if (found === undefined) throw missing(nameOrId);
    const [id, { name = null, sizeBytes }] = found as [string, { name?: string | null; sizeBytes: number }];
    return { id, name, sizeBytes, attachedTo: null };
  }

  mark = withoutSnapshots;
  complete = withoutSnapshots;
  abandon = withoutSnapshots;
  snapshotsOf = withoutSnapshots;
  dropSnapshot = withoutSnapshots;
  revert = withoutSnapshots;
  cloneSnapshot = withoutSnapshots;

  async create({ sizeBytes, name }: { sizeBytes: number; name?: string }) {
    const id = newId("vol");
    await writeFile(this.path(id), "");
    await truncate(this.path(id), sizeBytes);
    this.#volumes.set(id, { name, sizeBytes });
    return { id, sizeBytes };
  }

  async remove(id: string) {
    if (!this.#volumes.delete(id)) throw missing(id);
    await rm(this.path(id));
  }

  async importImage(id: string, file: { path: string; format: string }) {
    this.onImport();
    await run("qemu-img", ["convert", "-n", "-f", file.format, "-O", "raw", file.path, this.path(id)]);
  }

  async serve(id: string, request: Parameters<VolumeAccess["serve"]>[1]) {
    const volume = this.#volumes.get(id);
    if (volume === undefined) throw missing(id);
    const { machine, owner, everyWriteFua } = request;
    const socket = join(this.#directory, `${id.slice(-6)}.sock`);
    const answer = { socket, export: this.broken.has(id) ? "absent" : id, sizeBytes: volume.sizeBytes };
    if (this.served.get(id)?.machine === machine) return answer;
    assert.ok(!this.served.has(id), `${id} is served for another machine`);
    await this.ready();
    const serve = { id, path: this.path(id), socket, owner, everyWriteFua };
    await this.#call({ serve });
    this.served.set(id, { ...serve, machine });
    return answer;
  }

  async release(id: string, machine: string) {
    if (this.served.get(id)?.machine !== machine) return;
    this.served.delete(id);
    if (this.serverRuns) await this.#call({ release: id });
  }

  async ready() {
    this.readyCalls += 1;
    if (this.serverRuns) return;
    const server = fork(join(root, "test/machine-volumes-server.ts"), {
      execArgv: ["--conditions=skep-source"],
    });
    this.#server = server;
    server.setMaxListeners(0);
    server.on("message", ({ call, error }: { call: number; error?: string }) =>
      this.#calls.get(call)?.(error),
    );
    await once(server, "message");
    for (const serve of this.served.values()) await this.#call({ serve });
  }

  async grow(id: string, sizeBytes: number) {
    await truncate(this.path(id), sizeBytes);
    this.#volumes.set(id, { name: undefined, sizeBytes });
    await this.#call({ reconnect: id });
  }

  /** Whether there is no room for writes. */
  async setFull(full: boolean) {
    await this.#call({ full });
  }

  get serverRuns(): boolean {
    return this.#server !== undefined && this.#server.exitCode === null && this.#server.signalCode === null;
  }

  /** kill -9. */
  async killServer() {
    if (!this.serverRuns) return;
    const ended = once(this.#server as ChildProcess, "exit");
    this.#server?.kill("SIGKILL");
    await ended;
  }

  async #call(call: Call): Promise<void> {
    const number = this.#calls.size + 1;
    const error = await new Promise<string | undefined>((resolve) => {
      this.#calls.set(number, resolve);
      this.#server?.once("exit", () => resolve("the server has ended"));
      this.#server?.send({ ...call, call: number });
    });
    if (error !== undefined) throw new Error(error);
  }
}

/** A home with machines that are driven in this process, as skepd does. */
export class MachineBench implements AsyncDisposable {
  readonly skep: Installation;
  readonly volumes: FileVolumes;
  machines: Machines;
  /** Every state that any machine has had. */
  readonly states: MachineEvent[];

  private constructor(skep: Installation, volumes: FileVolumes, machines: Machines, states: MachineEvent[]) {
    this.skep = skep;
    this.volumes = volumes;
    this.machines = machines;
    this.states = states;
  }

  static async make(): Promise<MachineBench> {
    const skep = await Installation.make();
    const directory = join(skep.home, "v");
    await mkdir(directory);
    await chmod(directory, 0o711);
    await mkdir(skep.runtime, { recursive: true, mode: 0o711 });
    const volumes = new FileVolumes(directory);
    const states: MachineEvent[] = [];
    return new MachineBench(skep, volumes, await openMachines(skep, volumes, states), states);
  }

  /** As after the death of skepd: nothing is said to QEMU. */
  async reopen(): Promise<void> {
    await this.machines.close();
    this.machines = await openMachines(this.skep, this.volumes, this.states);
  }

  /** A tiny machine, and when it runs, one whose agent answers. */
  async tiny(name: string, more: Partial<Parameters<Machines["create"]>[0]> = {}): Promise<void> {
    const shape = { image: "tiny", memoryMiB: 128, cpus: 1, ...more };
    const wait = more.start === false ? {} : { start: true, wait: true };
    await this.machines.create({ name, ...shape, ...wait }, quietWork());
  }

  /** Runs a shell script in a guest and gives its output; fails where the script does. */
  async sh(name: string, script: string): Promise<string> {
    const session = await this.machines.exec(name, { command: ["sh", "-c", `exec 2>&1; ${script}`] });
    session.stdin.end();
    const [output, status] = await Promise.all([text(session.stdout), session.exit]);
    assert.equal(status, 0, `${script}: ${output}`);
    return output;
  }

  /** A guest without udev: the disk's name by its serial; waits for the guest to have seen it. */
  async disk(name: string, id: string): Promise<string> {
    const serial = id.replace("-", "");
    const script = `for d in /sys/block/vd*; do [ "$(cat $d/serial)" = ${serial} ] && echo /dev/\${d##*/}; done; true`;
    let found = "";
    await eventually(
      async () => {
        // An agent whose guest was paused misses the first call after it.
        found = (await this.sh(name, script).catch(() => "")).trim();
        return found !== "";
      },
      () => `${name} never saw ${id}`,
    );
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.volumes.ready().catch(() => undefined);
    await this.machines.close();
    await this.skep[Symbol.asyncDispose]();
    await this.volumes.killServer();
  }
}

/** One for all tests of a file, from before the first to after the last. `prepare`: before the first, too. */
export function useBench(prepare: (bench: MachineBench) => Promise<unknown> = async () => {}) {
  let bench: MachineBench | undefined;
  before(async () => {
    bench = await MachineBench.make();
    await prepare(bench);
  });
  after(() => bench?.[Symbol.asyncDispose]());
  return () => bench as MachineBench;
}

/** Makes image `hello` of `bootDisk`. */
export async function importHello({ skep }: MachineBench): Promise<void> {
  const path = join(skep.home, "hello.raw");
  await writeFile(path, bootDisk());
  await new ImageStore({ home: skep.home }).import({ path, name: "hello" }, quietWork());
}

/**
 * A disk that says hello on the serial port, writes its own boot sector over its third one, and halts:
 *
 *     xor ax, ax; mov ds, ax; mov es, ax; push dx; mov si, hello
 *     next: lodsb; test al, al; jz done; mov dx, 0x3f8; out dx, al; jmp next
 *     done: pop dx; mov ax, 0x301; mov bx, 0x7c00; mov cx, 3; mov dh, 0; int 0x13
 *     halt: hlt; jmp halt
 */
export function bootDisk(): Buffer {
  const code = "9031c08ed88ec052be277cac84c07406baf803eeebf55ab80103bb007cb90300b600cd13f4ebfd";
  const disk = Buffer.alloc(2 * 1024 ** 2);
  disk.write(`${code}${Buffer.from("root volume boots\n\0").toString("hex")}`, "hex");
  disk.writeUInt16LE(0xaa55, 510);
  return disk;
}

async function openMachines(
  { home, runtime }: Installation,
  volumes: VolumeAccess,
  states: MachineEvent[],
): Promise<Machines> {
  const quiet = () => {};
  return await Machines.open({
    home,
    runtime,
    images: new ImageStore({ home }),
    volumes,
    log: { debug: quiet, info: quiet, warn: console.error, error: console.error },
    onEvent(event) {
      if (event.type === "machine.state") states.push(event);
    },
  });
}

/** What tests do most, of a bench that is there by then. */
export function verbsOf(bench: () => MachineBench) {
  const work = quietWork();
  return {
    machine: (name: string) => bench().machines.get(name),
    attach: (name: string, volume: string) => bench().machines.attachVolume(name, { volume }, work),
    detach: (name: string, volume: string, force = false) =>
      bench().machines.detachVolume(name, volume, { force }, work),
    servedIds: () => [...bench().volumes.served.keys()],
  };
}
