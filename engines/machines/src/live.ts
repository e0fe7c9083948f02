import { rm, statfs } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { writeVersionedJson } from "@skep/base";
import { GuestAgent, type QmpClient, type QmpEvent } from "@skep/qmp";
import { Console } from "./console.ts";
import type { Machine } from "./machine.ts";
import { memoryDirectory } from "./paths.ts";
import { isAlive, type QemuProcess, waitGone } from "./process.ts";
import { TelnetServer } from "./telnet.ts";

/** Free space at which a machine that paused on a full disk goes on. */
const resumeFreeBytes = 32 * 1024 ** 2;

/** A QEMU that runs, with every connection skepd holds to it. Child of nobody: it outlives skepd. */
export class LiveMachine {
  readonly machine: Machine;
  readonly process: QemuProcess;
  readonly qmp: QmpClient;
  readonly agent: GuestAgent;
  readonly console: Console;
  #telnet: TelnetServer | undefined;
  /** Resolves when the process is gone and everything of it is cleared away. */
  readonly gone: Promise<void>;
  /** Set by the verb that ends the machine, so that its end needs no explanation. */
  stopRequested = false;
  #panicked = false;
  #shutdown: { guest: boolean; reason: string } | undefined;
  /** How the process ended, where skepd is its parent. */
  exited: Promise<string> | undefined;
  #ending = new AbortController();

  private constructor(machine: Machine, process: QemuProcess, qmp: QmpClient) {
    this.machine = machine;
    this.process = process;
    this.qmp = qmp;
    this.agent = new GuestAgent(machine.runtime.agent);
    this.console = new Console({
      name: machine.name,
      serialSocket: machine.runtime.serial,
      scriptSocket: machine.runtime.console,
      log: machine.consoleLog,
    });
    qmp.on("event", (event) => this.#onEvent(event));
    this.gone = qmp.closed.then(() => this.#onEnd());
  }

  /** Connects to a QEMU that has just been started, or was found running. */
  static async attach(machine: Machine, process: QemuProcess, qmp: QmpClient): Promise<LiveMachine> {
    const live = new LiveMachine(machine, process, qmp);
    machine.live = live;
    await live.console.open();
    if (machine.file.telnetPort !== null) {
      live.#telnet = await TelnetServer.listen(live.console, machine.file.telnetPort);
      if (live.#telnet.port !== machine.file.telnetPort)
        await machine.save({ telnetPort: live.#telnet.port });
    }
    const { status } = await qmp.execute("query-status");
    if (status === "io-error") live.#pausedOnError("disk full");
    else if (status === "guest-panicked") machine.setState("paused", "guest panicked");
    else if (status === "paused") machine.setState("paused", "paused through the monitor");
    else machine.setState("running");
    live.#watchAgent().catch(() => undefined);
    return live;
  }

  /** Leaves the machine running; for the end of skepd. */
  async detach(): Promise<void> {
    this.#ending.abort();
    await this.#telnet?.close();
    await this.console.close("skepd ends");
    await this.agent[Symbol.asyncDispose]();
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
        if (machine.state !== "stopping") machine.setState("stopping", this.#endReason());
        break;
      case "BLOCK_IO_ERROR":
        if (data?.action === "stop") this.#pausedOnError(data.nospace === true ? "disk full" : "disk error");
        break;
      case "STOP":
        if (machine.state === "running") machine.setState("paused", "paused through the monitor");
        break;
      case "RESUME":
        if (machine.state === "paused") machine.setState("running");
        break;
      case "RESET":
        machine.ready = false;
        break;
      case "VSERPORT_CHANGE":
        if (data?.id === "agent" && data.open === true) this.#watchAgent().catch(() => undefined);
        break;
    }
  }

  /** The agent's port has opened: the guest is ready where nobody else says so. */
  async #watchAgent(): Promise<void> {
    if (this.machine.file.ssh) return;
    const chardevs = await this.qmp.execute("query-chardev");
    if (!chardevs.some((chardev) => chardev.label === "agent" && chardev["frontend-open"])) return;
    await this.agent.ping({ timeoutMs: 30_000, signal: this.#ending.signal });
    this.machine.setReady("agent");
  }

  /** QEMU has paused the guest, which sees nothing of it; tries again once there is room. */
  #pausedOnError(reason: "disk full" | "disk error"): void {
    this.machine.setState("paused", reason);
    if (reason === "disk full") this.#resumeWhenFree().catch((error) => this.#warn(error, "cannot resume"));
  }

  async #resumeWhenFree(): Promise<void> {
    const { signal } = this.#ending;
    for (;;) {
      await sleep(1000, undefined, { signal, ref: false });
      const { bavail, bsize } = await statfs(this.machine.context.home);
      if (bavail * bsize >= resumeFreeBytes) break;
    }
    await this.qmp.execute("cont");
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
    machine.context.ssh.drop(machine.name);
    await clearRuntime(machine);
    machine.live = undefined;
    if (machine.run !== undefined) {
      machine.run = { ...machine.run, stoppedAt: new Date().toISOString(), reason };
      await writeVersionedJson(machine.paths.run, machine.run).catch((error: unknown) => {
        machine.context.log.warn({ machine: machine.name, err: error }, "cannot record the end");
      });
    }
    machine.setState("stopped", reason);
  }

  get alive(): boolean {
    return isAlive(this.process);
  }
}

/** Removes what dies with QEMU: its memory file, sockets and pidfile. */
export async function clearRuntime(machine: Machine): Promise<void> {
  await rm(memoryDirectory(machine.file.id), { recursive: true, force: true });
  await rm(machine.runtime.directory, { recursive: true, force: true });
}
