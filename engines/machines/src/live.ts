import { statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { GuestAgent, GuestHelper, type QmpClient, type QmpEvent } from "@skep/qmp";
import { clearRuntime, letFrozenGo } from "./clear-runtime.ts";
import { Console } from "./console.ts";
import { noteDeviceGone } from "./detach.ts";
import type { Machine } from "./machine.ts";
import { isAlive, type QemuProcess, waitGone } from "./process.ts";
import type { EndKind } from "./restart-record.ts";
import { TelnetServer } from "./telnet.ts";
import { volumeOfDevice } from "./volume-device.ts";
import { releaseVolumes } from "./volumes.ts";

/** Free space at which a machine that paused on a full disk goes on. */
const resumeFreeBytes = 32 * 1024 ** 2;

/** A QEMU that runs, with every connection skepd holds to it. Child of nobody: it outlives skepd. */
export class LiveMachine {
  readonly machine: Machine;
  readonly process: QemuProcess;
  readonly qmp: QmpClient;
  readonly agent: GuestAgent;
  /** Connects with the first exchange; silent where the guest has none. */
  readonly helper: GuestHelper;
  readonly console: Console;
  #telnet: TelnetServer | undefined;
  /** Resolves when the process is gone and everything of it is cleared away. */
  readonly gone: Promise<void>;
  /** Set by the verb that ends the machine, so that its end needs no explanation. */
  stopRequested = false;
  /** Set by the verb that holds the guest still for a moment, so that its pause needs no explanation. */
  held = false;
  #panicked = false;
  #resuming = false;
  #shutdown: { guest: boolean; reason: string } | undefined;
  /** How the process ended, where skepd is its parent. */
  exited: Promise<string> | undefined;
  #ending = new AbortController();

  private constructor(machine: Machine, process: QemuProcess, qmp: QmpClient) {
    this.machine = machine;
    this.process = process;
    this.qmp = qmp;
    this.agent = new GuestAgent(machine.runtime.agent);
    this.helper = new GuestHelper(machine.runtime.helper);
    this.console = new Console({
      name: machine.name,
      serialSocket: machine.runtime.serial,
      scriptSocket: machine.runtime.console,
      log: machine.consoleLog,
    });
    qmp.on("event", (event) => this.#onEvent(event));
    this.gone = qmp.closed
      .then(() => this.#onEnd())
      .catch((error: unknown) =>
        machine.context.log.error({ machine: machine.name, err: error }, "cannot end"),
      );
  }

  /** Connects to a QEMU that has just been started, or was found running. */
  static async attach(machine: Machine, process: QemuProcess, qmp: QmpClient): Promise<LiveMachine> {
    const live = new LiveMachine(machine, process, qmp);
    machine.live = live;
    try {
      await live.#open();
    } catch (error) {
      await live.detach();
      machine.live = undefined;
      throw error;
    }
    return live;
  }

  async #open(): Promise<void> {
    const { machine, qmp } = this;
    await this.console.open();
    const port = machine.file.telnetPort;
    if (port !== null) {
      // Chosen by us, so that it may move where another program has taken it.
      this.#telnet = await TelnetServer.listen(this.console, port).catch(() =>
        TelnetServer.listen(this.console, 0),
      );
      if (this.#telnet.port !== port) await machine.save({ telnetPort: this.#telnet.port });
    }
    const { status } = await qmp.execute("query-status");
    const { suspended } = machine.file;
    if (suspended !== null) machine.setState(suspended.phase === "saving" ? "suspending" : "resuming");
    else if (status === "io-error") this.#pausedOnError("disk full");
    else if (status === "guest-panicked") machine.setState("paused", "guest panicked");
    else if (status === "inmigrate" || status === "prelaunch") machine.setState("starting", machine.reason);
    else if (status === "paused" || status === "postmigrate")
      machine.setState("paused", "paused through the monitor");
    else machine.setState("running");
    this.#watchAgent().catch(() => undefined);
  }

  /** Leaves the machine running; for the end of skepd. */
  async detach(): Promise<void> {
    this.#ending.abort();
    await this.#telnet?.close();
    await this.console.close("skepd ends");
    await this.agent[Symbol.asyncDispose]();
    await this.helper[Symbol.asyncDispose]();
    this.qmp.removeAllListeners("event");
    await this.qmp.close();
  }

  #onEvent({ event, data }: QmpEvent): void {
    const { machine } = this;
    switch (event) {
      case "GUEST_PANICKED":
        this.#panicked = true;
        break;
      case "SHUTDOWN":
        this.#shutdown = { guest: data?.guest === true, reason: String(data?.reason ?? "") };
        if (!this.#changing) machine.setState("stopping", this.#endReason());
        break;
      case "BLOCK_IO_ERROR":
        if (data?.action === "stop") this.#pausedOnError(data.nospace === true ? "disk full" : "disk error");
        break;
      case "STOP":
        if (machine.state === "running" && !this.held) {
          machine.setState("paused", "paused through the monitor");
        }
        break;
      case "RESUME":
        if (machine.state === "paused") machine.setState("running");
        break;
      case "RESET":
        machine.ready = false;
        break;
      case "DEVICE_DELETED":
        this.#onDeviceGone(volumeOfDevice(data?.device));
        break;
      case "VSERPORT_CHANGE":
        if (data?.id === "agent" && data.open === true) this.#watchAgent().catch(() => undefined);
        break;
    }
  }

  /** A verb is at work that says itself what the machine is. */
  get #changing(): boolean {
    const { state } = this.machine;
    return state === "stopping" || state === "suspending" || state === "resuming";
  }

  #onDeviceGone(volume: string | undefined): void {
    if (volume === undefined) return;
    noteDeviceGone(this, volume).catch((error) => this.#warn(error, "cannot detach the volume"));
  }

  /** Whether a helper listens in the guest: the quick answer, where one that has none would stay silent. */
  hasHelper(): Promise<boolean> {
    return this.#isOpen("helper");
  }

  /** Whether somebody in the guest has opened a port. */
  async #isOpen(port: "agent" | "helper"): Promise<boolean> {
    const chardevs = await this.qmp.execute("query-chardev");
    return chardevs.some((chardev) => chardev.label === port && chardev["frontend-open"]);
  }

  /** The agent's port has opened: the guest is ready where nobody else says so. */
  async #watchAgent(): Promise<void> {
    if (this.machine.file.ssh || !(await this.#isOpen("agent"))) return;
    await this.agent.ping({ timeoutMs: 30_000, signal: this.#ending.signal });
    this.machine.setReady("agent");
  }

  /** QEMU has paused the guest, which sees nothing of it; tries again once there is room. */
  #pausedOnError(reason: "disk full" | "disk error"): void {
    this.machine.setState("paused", reason);
    // Each request that was under way fails on its own.
    if (reason !== "disk full" || this.#resuming) return;
    this.#resuming = true;
    this.#resumeWhenFree()
      .catch((error) => this.#warn(error, "cannot resume"))
      .finally(() => {
        this.#resuming = false;
      });
  }

  async #resumeWhenFree(): Promise<void> {
    const { signal } = this.#ending;
    const { machine } = this;
    for (;;) {
      await sleep(1000, undefined, { signal, ref: false });
      // Gone on for a second, or somebody else's pause by now.
      if (machine.state !== "paused" || machine.reason !== "disk full") return;
      const { bavail, bsize } = await statfs(machine.context.home);
      if (bavail * bsize >= resumeFreeBytes) await this.qmp.execute("cont");
    }
  }

  #warn(error: unknown, message: string): void {
    if (this.#ending.signal.aborted) return;
    this.machine.context.log.warn({ machine: this.machine.name, err: error }, message);
  }

  #endReason(exitStatus?: string): string | null {
    if (this.stopRequested) return null;
    if (this.#panicked) return "guest panicked";
    const reason = this.#shutdown?.reason;
    if (reason === "guest-shutdown" || reason === "guest-reset") return "guest shut down";
    if (reason === "host-qmp-quit") return "ended through the monitor";
    if (reason === "host-signal") return "QEMU was told to end by a signal";
    if (reason === "host-error") return "QEMU failed: see skep logs --qemu";
    return exitStatus === undefined ? "QEMU ended unexpectedly" : `QEMU ended unexpectedly (${exitStatus})`;
  }

  get #endKind(): EndKind {
    if (this.stopRequested) return "requested";
    const reason = this.#shutdown?.reason;
    if (this.#panicked || reason === undefined) return "failure";
    if (reason === "guest-shutdown" || reason === "guest-reset") return "guest";
    if (reason === "host-qmp-quit") return "monitor";
    return reason === "host-signal" ? "signal" : "failure";
  }

  /** QMP has closed: QEMU is ending, or its socket was taken from us. */
  async #onEnd(): Promise<void> {
    const { machine } = this;
    if (this.#ending.signal.aborted) return;
    while (!(await waitGone(this.process, 5000))) {
      machine.setState("stopping", "QEMU has closed its monitor and not ended yet");
    }
    this.#ending.abort();
    const reason = this.#endReason(await this.exited);
    await this.console.close(reason ?? "the machine has stopped").catch(() => undefined);
    await this.#telnet?.close().catch(() => undefined);
    await this.agent[Symbol.asyncDispose]().catch(() => undefined);
    await this.helper[Symbol.asyncDispose]().catch(() => undefined);
    machine.context.ssh.drop(machine.name);
    await clearRuntime(machine);
    await machine.context.ended(machine, this.#endKind, reason);
    const stoppedAt = new Date().toISOString();
    const cannotRecord = (error: unknown) =>
      machine.context.log.warn({ machine: machine.name, err: error }, "cannot record the end");
    await machine.saveRun(() => ({ stoppedAt, reason })).catch(cannotRecord);
    // Until then it is not over: the next start has them served anew.
    await releaseVolumes(machine).catch(cannotRecord);
    machine.live = undefined;
    machine.setState(machine.restState, reason);
    await letFrozenGo(machine);
  }

  /** The id of the frozen machine whose memory it borrows; null where it has its own. */
  get frozen(): string | null {
    return this.machine.run?.memory.frozen ?? null;
  }

  get alive(): boolean {
    return isAlive(this.process);
  }
}
