import { join } from "node:path";
import type { Duplex } from "node:stream";
import type {
  Check,
  MachineEdit,
  MachineRequest,
  MachineStats,
  Machine as MachineView,
  MachineVolume,
  Port,
  PortRequest,
  RemoveRequest,
  StartRequest,
  StopRequest,
} from "@skep/api/schemas";
import { bootId, checkName, quietWork, readFileIfThere, type Work, writeFileAtomic } from "@skep/base";
import { admitFrozen } from "./admission.ts";
import { adoptRunning } from "./adopt.ts";
import { type AttachRequest, attachVolume } from "./attach.ts";
import { type ConsoleLog, PlainLog } from "./console-log.ts";
import type { Context } from "./context.ts";
import { createMachine } from "./create.ts";
import { damagedView } from "./damaged.ts";
import { type DetachRequest, detachVolume } from "./detach.ts";
import { diagnose } from "./doctor.ts";
import { editMachine } from "./edit.ts";
import { fail } from "./errors.ts";
import { execInGuest, tunnelToGuest } from "./guest-sessions.ts";
import { prepareHome } from "./home.ts";
import { forgetVanished, loadMachines } from "./load.ts";
import type { Machine } from "./machine.ts";
import type { MachineFile } from "./machine-file.ts";
import { type MachinesOptions, openContext } from "./open-context.ts";
import { machinePaths } from "./paths.ts";
import { addPort, removePort } from "./ports.ts";
import { qemuCommand } from "./qemu-command.ts";
import { waitUp } from "./ready.ts";
import { recoverJob } from "./recover-job.ts";
import { removeDamaged, removeMachine } from "./remove.ts";
import type { RestartKeeper } from "./restart.ts";
import { recoverVolume, settleAll } from "./settle.ts";
import { sshConfig } from "./ssh-config.ts";
import { startMachine } from "./start.ts";
import { machineStats, screenshot } from "./stats.ts";
import { stopMachine } from "./stop.ts";
import { sweepLeftovers, sweepUnusedLayers } from "./sweep.ts";
import type { ConsoleAttachment, ConsoleOptions, ExecRequest, ExecSession, LogOptions } from "./types.ts";
import { usedImages } from "./used-images.ts";
import { machineOf, resizeVolume } from "./volumes.ts";

export type { MachinesOptions } from "./open-context.ts";

/** All machines of one home. One process at a time may hold it: see skepd's lock. */
export class Machines implements AsyncDisposable {
  readonly #context: Context;
  readonly #keeper: RestartKeeper;
  #settled: Promise<unknown> = Promise.resolve();

  private constructor(context: Context, keeper: RestartKeeper) {
    this.#context = context;
    this.#keeper = keeper;
  }

  /** Reads every machine's file and takes over those that run. */
  static async open(options: MachinesOptions): Promise<Machines> {
    const { context, keeper } = openContext(options);
    const { home, log } = context;
    const machines = new Machines(context, keeper);
    await prepareHome(home);
    const sweepVolumes = await sweepLeftovers(context);
    await loadMachines(context);
    await adoptRunning(context);
    await sweepUnusedLayers(context).catch((error: unknown) =>
      log.warn({ err: error }, "cannot sweep layers"),
    );
    machines.#settled = settleAll(context, sweepVolumes);
    return machines;
  }

  /** Starts machines marked `autostart`, once per boot of the host; from then on restart policies hold. */
  async autostart(work: Work = quietWork()): Promise<void> {
    await this.#autostart(work);
    await this.#keeper.begin();
  }

  async #autostart(work: Work): Promise<void> {
    const marker = join(this.#context.home, "autostarted");
    if ((await readFileIfThere(marker)) === bootId()) return;
    await writeFileAtomic(marker, bootId());
    for (const machine of this.#context.machines.values()) {
      // What was put to sleep sleeps on.
      if (!machine.file.autostart || machine.live !== undefined || machine.state === "suspended") continue;
      try {
        await this.start(machine.name, {}, work);
      } catch (error) {
        this.#context.log.error({ machine: machine.name, err: error }, "cannot autostart");
      }
    }
  }

  list(): MachineView[] {
    forgetVanished(this.#context);
    const views = [...this.#context.machines.values()].map((machine) => machine.view());
    for (const damaged of this.#context.damaged.values())
      views.push(damagedView(this.#context.home, damaged));
    return views.sort((a, b) => a.name.localeCompare(b.name));
  }

  get(name: string): MachineView {
    forgetVanished(this.#context);
    const damaged = this.#context.damaged.get(name);
    return damaged === undefined ? this.#machine(name).view() : damagedView(this.#context.home, damaged);
  }

  #machine(name: string): Machine {
    const machine = this.#context.machines.get(name);
    if (machine !== undefined) return machine;
    const damaged = this.#context.damaged.get(name);
    if (damaged !== undefined) {
      const path = machinePaths(this.#context.home, name).file;
      throw fail("MACHINE_DAMAGED", { name, why: damaged.reason, path });
    }
    throw fail("MACHINE_NOT_FOUND", { name: name.slice(0, 80) });
  }

  async create(request: MachineRequest, work: Work): Promise<MachineView> {
    checkName(request.name);
    if (this.#context.machines.has(request.name)) throw fail("MACHINE_EXISTS", { name: request.name });
    // One that is there is another one: no call waits for itself, or for one that waits for it.
    if (request.from !== undefined) this.#machine(request.from);
    // The base must not start, change or vanish meanwhile.
    const names = [request.name, ...(request.from === undefined ? [] : [request.from])];
    const machine = await this.#context.turns.runAll(names, async () => {
      work.signal.throwIfAborted();
      const made = await createMachine(this.#context, request, work);
      try {
        if (request.start === true) await startMachine(made, work);
        work.signal.throwIfAborted();
      } catch (error) {
        await removeMachine(made, { force: true }, quietWork());
        throw error;
      }
      return made;
    });
    if (request.start === true && request.wait === true) {
      try {
        await waitUp(machine, request, work);
      } catch (error) {
        // Cancelled, it leaves nothing; one that is merely slow is kept to be looked at.
        if (work.signal.aborted) {
          await this.#context.turns.run(request.name, async () => {
            if (this.#context.machines.get(request.name) !== machine) return; // removed meanwhile
            await removeMachine(machine, { force: true }, quietWork());
          });
        }
        throw error;
      }
    }
    return machine.view();
  }

  /** A machine that nobody sees, to be removed by `abandonFork`; a later process does where this one is killed. */
  async createHidden(request: MachineRequest, seedBytes: number, work: Work): Promise<Machine> {
    return await createMachine(this.#context, request, work, { hidden: true, seedBytes });
  }

  /** Removes layers that nothing stands on any more. */
  async sweepLayers(): Promise<void> {
    await sweepUnusedLayers(this.#context);
  }

  /** Works on a machine when no other verb does. Until then it may be gone, another one, or not wanted. */
  async #turn<T>(name: string, work: (machine: Machine) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const turn = async () => {
      signal?.throwIfAborted();
      return await work(this.#machine(name));
    };
    return await this.#machine(name).uses.during(() => this.#context.turns.run(name, turn));
  }

  /** For the rooms that come after this one: works on a machine when no other verb does. */
  async withMachine<T>(
    name: string,
    work: (machine: Machine) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    return await this.#turn(name, work, signal);
  }

  /** As `withMachine`, for what sees to machines by itself: it counts as no use of one. */
  async tend<T>(name: string, work: (machine: Machine) => Promise<T>): Promise<T> {
    return await this.#context.turns.run(name, () => work(this.#machine(name)));
  }

  /** To look at; what changes one wants its turn. */
  all(): Iterable<Machine> {
    return this.#context.machines.values();
  }

  /** Files of all machines; `damaged` are the names of those that cannot be read. */
  files(): { files: MachineFile[]; damaged: string[] } {
    const { machines, damaged } = this.#context;
    return { files: [...machines.values()].map(({ file }) => file), damaged: [...damaged.keys()] };
  }

  /** Ids of the frozen machines that those which run have borrowed their memory from. */
  borrowed(): Set<string> {
    const running = [...this.#context.machines.values()].filter((machine) => !machine.atRest);
    const ids = running.map(({ run }) => run?.memory.frozen ?? null);
    return new Set(ids.filter((id) => id !== null));
  }

  /** Refuses a copy of that much of a guest's memory in /dev/shm where there is no room. MEMORY_SHORT. */
  async admitFrozen(name: string, bytes: number): Promise<void> {
    await admitFrozen(this.#context, name, bytes);
  }

  /** Of the QEMU that would be started now. COMMAND_MISSING. */
  async qemuVersion(arch: MachineFile["arch"]): Promise<string> {
    return (await this.#context.programs.get(arch)).version;
  }

  /** Waits until a machine that runs answers, as `start` does. */
  async waitReady(name: string, request: StartRequest, work: Work): Promise<MachineView> {
    const machine = this.#machine(name);
    await waitUp(machine, request, work);
    return machine.view();
  }

  async start(name: string, request: StartRequest, work: Work): Promise<MachineView> {
    const start = async (machine: Machine) => {
      await startMachine(machine, work, { cold: request.cold === true });
      return machine;
    };
    const machine = await this.#turn(name, start, work.signal);
    if (request.wait === true) await waitUp(machine, request, work);
    return machine.view();
  }

  async stop(name: string, request: StopRequest, work: Work): Promise<MachineView> {
    const stop = async (machine: Machine) => {
      await this.#keeper.stopping(machine, () => stopMachine(machine, request, work));
      return machine.view();
    };
    return await this.#turn(name, stop, work.signal);
  }

  async restart(name: string, request: StartRequest & StopRequest, work: Work): Promise<MachineView> {
    const restart = async (machine: Machine) => {
      await stopMachine(machine, request, work);
      await startMachine(machine, work);
      return machine;
    };
    const machine = await this.#turn(name, restart, work.signal);
    if (request.wait === true) await waitUp(machine, request, work);
    return machine.view();
  }

  async remove(name: string, request: RemoveRequest, work: Work): Promise<void> {
    const damaged = this.#context.damaged.get(name);
    if (damaged !== undefined) {
      if (request.force !== true) this.#machine(name); // throws, and says how
      return await removeDamaged(this.#context, damaged, work);
    }
    await this.#turn(name, (machine) => removeMachine(machine, request, work), work.signal);
  }

  async edit(name: string, edit: MachineEdit, work: Work): Promise<MachineView> {
    const change = async (machine: Machine) => {
      await editMachine(machine, edit, work);
      return machine.view();
    };
    return await this.#turn(name, change, work.signal);
  }

  async addPort(name: string, request: PortRequest): Promise<Port[]> {
    return await this.#turn(name, (machine) => addPort(machine, request));
  }

  async removePort(name: string, request: { hostPort: number; protocol?: "tcp" | "udp" }): Promise<Port[]> {
    return await this.#turn(name, (machine) => removePort(machine, request));
  }

  /** At once where the machine runs, at its next start where it is stopped. */
  async attachVolume(name: string, request: AttachRequest, work: Work): Promise<MachineVolume> {
    return await this.#turn(name, (machine) => attachVolume(machine, request, work), work.signal);
  }

  /** `volume` is an id or a name. Only data volumes; a guest that uses it is left alone unless by force. */
  async detachVolume(name: string, volume: string, request: DetachRequest, work: Work): Promise<void> {
    await this.#turn(name, (machine) => detachVolume(machine, volume, request, work), work.signal);
  }

  /** A volume has grown, and its server has had QEMU connect again: now its guest is told. */
  async volumeResized(id: string, sizeBytes: number): Promise<void> {
    const name = this.machineOf(id);
    if (name === undefined) return;
    await this.#turn(name, (machine) => resizeVolume(machine, id, sizeBytes));
  }

  /** The name of the machine that has a volume. */
  machineOf(volumeId: string): string | undefined {
    return machineOf(this.#context, volumeId);
  }

  async stats(name: string): Promise<MachineStats> {
    return await machineStats(this.#machine(name));
  }

  async screenshot(name: string): Promise<Buffer> {
    return await screenshot(this.#machine(name));
  }

  /** The whole command line, as it is or would be, and the directories that a start makes for it. */
  async qemuCommand(name: string): Promise<{ command: string[]; directories: string[] }> {
    return await qemuCommand(this.#machine(name));
  }

  logs(name: string, options: LogOptions): AsyncIterable<Uint8Array> {
    const machine = this.#machine(name);
    const log: ConsoleLog | PlainLog =
      options.source === "qemu" ? new PlainLog(machine.paths.qemuLog) : machine.consoleLog;
    return options.follow === true ? log.follow(options) : log.read(options);
  }

  async console(name: string, options: ConsoleOptions): Promise<ConsoleAttachment> {
    return await this.#machine(name).running().console.attach(options);
  }

  /** Waits first for a guest that is still booting. */
  async exec(name: string, request: ExecRequest, signal?: AbortSignal): Promise<ExecSession> {
    return await execInGuest(this.#machine(name), request, signal);
  }

  async tunnel(name: string, guestPort: number): Promise<Duplex> {
    return await tunnelToGuest(this.#machine(name), guestPort);
  }

  sshConfig(): string {
    return sshConfig(this.#context);
  }

  /** Digests of images that machines stand on, with the machines' names. */
  usedImages(): Map<string, string[]> {
    return usedImages(this.#context);
  }

  async doctor(): Promise<Check[]> {
    const checks = await diagnose(this.#context);
    for (const { name, reason } of this.#context.damaged.values()) {
      checks.push({
        name: `machine ${name}`,
        status: "failed",
        detail: reason,
        fix: `skep rm --force ${name}`,
      });
    }
    return checks;
  }

  /**
   * What became of a job that a killed skepd left half done. A machine is there as a whole or not
   * at all, so that only a start that was asked for may remain to be done.
   */
  async recover(kind: string, subject: string, request: unknown): Promise<"finished" | "undone"> {
    if (kind === "volume.attach" || kind === "volume.detach") {
      await this.#settled;
      return await recoverVolume(this.#context, kind, subject, request);
    }
    const start = () => this.start(subject, {}, quietWork());
    return await recoverJob(this.#context.machines.get(subject), kind, request, start);
  }

  /** Lets go of every machine; they run on. */
  async close(): Promise<void> {
    await this.#settled;
    await this.#keeper[Symbol.asyncDispose]();
    await Promise.all([...this.#context.machines.values()].map((machine) => machine.live?.detach()));
    await this.#context.ssh[Symbol.asyncDispose]();
    await this.#context.locks.run("ssh-config", async () => {}); // what is being written
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
