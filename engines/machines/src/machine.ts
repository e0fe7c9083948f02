import { join } from "node:path";
import type { Idle, Liveness, MachineState, Machine as MachineView, Restarts } from "@skep/api/schemas";
import { writeVersionedJson } from "@skep/base";
import { ConsoleLog } from "./console-log.ts";
import type { Context } from "./context.ts";
import { fail } from "./errors.ts";
import type { LiveMachine } from "./live.ts";
import type { MachineFile, RunRecord } from "./machine-file.ts";
import { writeMachineFile } from "./machine-file.ts";
import { type MachinePaths, machinePaths, type RuntimePaths, runtimePaths } from "./paths.ts";
import { writeRestarts } from "./restart-record.ts";
import { Uses } from "./uses.ts";
import { guestDevice } from "./volume-device.ts";

/** One machine of this home, stopped or running. */
export class Machine {
  readonly context: Context;
  file: MachineFile;
  run: RunRecord | undefined;
  state: Exclude<MachineState, "damaged"> = "stopped";
  reason: string | null = null;
  ready = false;
  /** How often its state has changed. */
  transitions = 0;
  /** What its check says, while it is watched. */
  liveness: Liveness | null = null;
  /** How idle it is, while that is watched. */
  idle: Idle | null = null;
  readonly uses = new Uses();
  /** Somebody listens on its forwards in its QEMU's stead, which is started without any (engines/arks). */
  forwardsHeld = false;
  /** What its restart policy did and will do. */
  restarts: Restarts | null;
  /** There while QEMU runs. */
  live: LiveMachine | undefined;
  readonly consoleLog: ConsoleLog;
  #saved: Promise<unknown> = Promise.resolve();

  constructor(context: Context, file: MachineFile, run?: RunRecord, restarts: Restarts | null = null) {
    this.context = context;
    this.file = file;
    this.run = run;
    this.restarts = restarts;
    this.reason = run?.reason ?? null;
    this.state = this.restState;
    this.consoleLog = new ConsoleLog(this.paths.consoleLog);
  }

  get name(): string {
    return this.file.name;
  }

  /** What it is without a QEMU. */
  get restState(): "stopped" | "suspended" {
    return this.file.suspended?.phase === "saved" ? "suspended" : "stopped";
  }

  /** Whether it has no QEMU, as far as anybody knows. */
  get atRest(): boolean {
    return this.state === "stopped" || this.state === "suspended";
  }

  get paths(): MachinePaths {
    return machinePaths(this.context.home, this.file.name);
  }

  get runtime(): RuntimePaths {
    return runtimePaths(this.context.runtime, this.file.id);
  }

  /** The live QEMU, or MACHINE_NOT_RUNNING. */
  running(): LiveMachine {
    if (this.live === undefined) throw fail("MACHINE_NOT_RUNNING", { name: this.name });
    return this.live;
  }

  setState(state: Machine["state"], reason: string | null = null): void {
    if (this.state === state && this.reason === reason) return;
    this.state = state;
    this.reason = reason;
    this.transitions += 1;
    if (state !== "running" && state !== "paused" && state !== "stopping") this.ready = false;
    this.context.log.info({ machine: this.name, state, reason }, "machine state");
    this.context.emit({ type: "machine.state", subject: this.name, data: { state, reason } });
  }

  setReady(by: "ssh" | "agent" | "helper"): void {
    if (this.ready) return;
    this.ready = true;
    this.context.emit({ type: "machine.ready", subject: this.name, data: { by } });
  }

  /** One after another: what ends a machine saves beside the verb that works on it. */
  async save(change: Partial<MachineFile> | ((file: MachineFile) => Partial<MachineFile>)): Promise<void> {
    const save = async () => {
      const changed = typeof change === "function" ? change(this.file) : change;
      const file = { ...this.file, ...changed };
      await writeMachineFile(this.paths.file, file);
      this.file = file;
      this.context.emit({ type: "machine.changed", subject: this.name, data: Object.keys(changed) });
    };
    const saving = this.#saved.then(save);
    this.#saved = saving.catch(() => undefined);
    await saving;
  }

  async saveRun(change: (run: RunRecord) => Partial<RunRecord>): Promise<void> {
    const save = async () => {
      if (this.run === undefined) return;
      this.run = { ...this.run, ...change(this.run) };
      await writeVersionedJson(this.paths.run, this.run);
    };
    const saving = this.#saved.then(save);
    this.#saved = saving.catch(() => undefined);
    await saving;
  }

  async saveRestarts(restarts: Restarts | null): Promise<void> {
    this.restarts = restarts;
    const saving = this.#saved.then(() => writeRestarts(this.paths.restarts, this.restarts));
    this.#saved = saving.catch(() => undefined);
    await saving;
  }

  /** The forwarded port of the guest's ssh server. */
  sshPort(): { host: string; port: number } | undefined {
    const port = this.file.ports.find(({ guestPort, protocol }) => guestPort === 22 && protocol === "tcp");
    if (port === undefined || port.hostPort === 0) return undefined;
    const host = port.hostAddress === "0.0.0.0" ? "127.0.0.1" : port.hostAddress;
    return { host, port: port.hostPort };
  }

  #suspension(): MachineView["suspended"] {
    const { suspended } = this.file;
    if (suspended?.phase !== "saved") return null;
    const { state, at, populatedMiB, storedBytes, pauseMs } = suspended;
    return { state, at, populatedMiB, storedBytes, pauseMs, idle: suspended.idle === true };
  }

  view(): MachineView {
    const { file, live } = this;
    const root = file.volumes.find(({ role }) => role === "root");
    const ssh = file.ssh ? this.sshPort() : undefined;
    return {
      id: file.id,
      name: file.name,
      state: this.state,
      reason: this.reason,
      image: file.image?.name ?? null,
      imageDigest: file.image?.digest ?? null,
      from: file.from,
      arch: file.arch,
      cpus: file.cpus,
      memoryMiB: file.memoryMiB,
      diskBytes: root?.sizeBytes ?? file.disk?.sizeBytes ?? 0,
      firmware: file.firmware,
      accelerator: live === undefined ? null : (this.run?.accelerator ?? null),
      ports: file.ports,
      dataDisks: file.dataDisks.map(({ sizeBytes }) => ({ sizeBytes })),
      volumes: file.volumes.map((volume) => ({ ...volume, device: guestDevice(volume) })),
      ssh: ssh === undefined ? null : { ...ssh, user: file.user },
      mac: file.mac,
      autostart: file.autostart,
      restart: file.restart,
      restarts: this.restarts,
      check: file.check,
      liveness: this.liveness,
      suspendAfterSeconds: file.suspendAfterSeconds,
      idle: this.idle,
      telnetPort: file.telnetPort,
      pid: live?.process.pid ?? null,
      ready: this.ready,
      createdAt: file.createdAt,
      startedAt: live === undefined ? null : (this.run?.startedAt ?? null),
      suspended: this.#suspension(),
      directory: this.paths.directory,
      sockets: {
        console: join(this.paths.directory, "console.sock"),
        control: join(this.paths.directory, "control.sock"),
      },
    };
  }
}
