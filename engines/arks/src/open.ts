import type {
  Check,
  ForkRequest,
  ForkResult,
  ResumeRequest,
  ResumeResult,
  SuspendRequest,
  SuspendResult,
} from "@skep/api/schemas";
import { quietWork, type SkepError, type Work } from "@skep/base";
import type { Log, Machine, MachineEvent, MachineFile, Machines } from "@skep/machines";
import { listStates, removeState } from "./commit.ts";
import { diagnoseStates, type NamedState } from "./doctor.ts";
import { fail } from "./errors.ts";
import { forkMachine, recoverFork, writeSeedOf } from "./fork.ts";
import { FrozenMachines } from "./frozen.ts";
import { owesHooks, runAfterResume, withSuspendHooks } from "./hooks.ts";
import { IdleKeeper } from "./idle.ts";
import type { IdleTimes } from "./idle-watch.ts";
import { Later } from "./later.ts";
import { recoverMachine } from "./recover.ts";
import { bootInstead, resumeMachine } from "./resume.ts";
import { diagnoseSnapshots } from "./snapshot-doctor.ts";
import { snapshotUses } from "./snapshot-uses.ts";
import { Snapshots } from "./snapshots.ts";
import type { Reach } from "./standstill.ts";
import type { States } from "./states.ts";
import { suspendMachine } from "./suspend.ts";
import { defaultSettings, type TemplateSettings } from "./template-cache.ts";
import { Templates, type TemplatesOptions } from "./templates.ts";
import type { HostRecord } from "./types.ts";

export interface StatesOptions {
  home: string;
  machines: Machines;
  log: Log;
  /** How patient it is with idle machines. */
  idleTimes?: IdleTimes;
  /** Default: machines begin from templates, which are made where somebody asks for them. */
  templates?: TemplateSettings;
  /** The digest that an image's name means now. */
  digestOf?: TemplatesOptions["digestOf"];
  /** Called between the steps of a verb; tests end the process there. */
  reach?: Reach;
}

/**
 * Opens the states of a home, whose machines have been opened before. Give the machines `removeState` as
 * their `discardState`, and call `recover` before anybody asks for a verb.
 */
export async function openStates(options: StatesOptions): Promise<States> {
  const { home, machines, log } = options;
  const { states, temporary } = await listStates(home);
  const frozen = new FrozenMachines({
    home,
    borrowed: () => machines.borrowed(),
    admit: (name, bytes) => machines.admitFrozen(name, bytes),
    log,
  });
  await frozen.sweepDrafts();
  return new HomeStates(options, frozen, [...states, ...temporary]);
}

class HomeStates implements States {
  readonly snapshots: Snapshots;
  readonly templates: Templates;
  readonly #home: string;
  readonly #machines: Machines;
  readonly #log: StatesOptions["log"];
  readonly #reach: Reach;
  readonly #frozen: FrozenMachines;
  readonly #idle: IdleKeeper;
  readonly #later = new Later();
  /** All that was there before this process made any. */
  readonly #earlier: string[];

  constructor(
    { home, machines, log, idleTimes: times, reach = () => {}, ...more }: StatesOptions,
    frozen: FrozenMachines,
    earlier: string[],
  ) {
    this.#home = home;
    this.#machines = machines;
    this.#log = log;
    this.#reach = reach;
    this.#frozen = frozen;
    this.#earlier = earlier;
    this.snapshots = new Snapshots({ home, machines, frozen, log, reach });
    const { templates: settings = { ...defaultSettings, build: false }, digestOf = () => undefined } = more;
    this.templates = new Templates({ home, machines, frozen, settings, digestOf, log, reach });
    this.#idle = new IdleKeeper({
      machines,
      log,
      ...(times === undefined ? {} : { times }),
      suspend: (machine, work, last) => this.#suspendIdle(machine, work, last),
      resume: async (name, work) => void (await this.resume(name, {}, work)),
    });
  }

  async suspend(name: string, request: SuspendRequest, work: Work): Promise<SuspendResult> {
    const started = performance.now();
    const suspend = async (machine: Machine) => {
      if (machine.state !== "suspended") {
        checkRuns(machine);
        await withSuspendHooks(machine, request, work, () =>
          suspendMachine(machine, { work, reach: this.#reach, frozen: this.#frozen }),
        );
      } else await sleepOn(machine);
      return machine.view();
    };
    const machine = await this.#machines.withMachine(name, suspend, work.signal);
    return { machine, durationMs: Math.round(performance.now() - started) };
  }

  async #suspendIdle(machine: Machine, work: Work, last: () => Promise<void>): Promise<void> {
    await withSuspendHooks(machine, {}, work, async () => {
      await last();
      await suspendMachine(machine, { work, reach: this.#reach, frozen: this.#frozen, idle: true });
    });
  }

  async wake(name: string): Promise<void> {
    await this.#idle.wake(name);
  }

  noticed(event: MachineEvent): void {
    this.#idle.noticed(event);
  }

  async resume(name: string, request: ResumeRequest, work: Work): Promise<ResumeResult> {
    const started = performance.now();
    let ran: number | undefined;
    const resume = async (machine: Machine): Promise<ResumeResult["how"]> => {
      const { suspended } = machine.file;
      if (machine.state !== "suspended" || suspended === null) {
        if (machine.live === undefined) throw fail("STATE_NOT_SUSPENDED", { machine: name });
        return "running";
      }
      if (request.cold === true) {
        await bootInstead(machine, suspended, { work, reach: this.#reach });
        return "booted";
      }
      const [frozen, reach, hooks] = [this.#frozen, this.#reach, request];
      const goesOn = () => {
        ran = performance.now();
      };
      await resumeMachine(machine, suspended, { frozen, work, reach, hooks, goesOn });
      return "resumed";
    };
    const how = await this.#machines.withMachine(name, resume, work.signal);
    const durationMs = Math.round((ran ?? performance.now()) - started);
    if (request.wait === true) await this.#machines.waitReady(name, request, work);
    return { machine: this.#machines.get(name), how, durationMs };
  }

  async fork(name: string, request: ForkRequest, work: Work): Promise<ForkResult> {
    const [machines, frozen, reach] = [this.#machines, this.#frozen, this.#reach];
    const later = (rest: (signal: AbortSignal) => Promise<void>) => this.#run(name, rest);
    return await forkMachine(name, request, { machines, frozen, work, reach, later });
  }

  #run(machine: string, work: (signal: AbortSignal) => Promise<void>): void {
    this.#later.run(work, (error) =>
      this.#log.warn({ machine, err: error }, "what was left to do has failed"),
    );
  }

  async #recoverOne(name: string): Promise<void> {
    const hooksAreOwed = async (machine: Machine) => {
      const { suspended } = machine.file;
      await recoverMachine(machine);
      const wasResuming = suspended?.phase === "resuming" && suspended.agent && suspended.hooks !== false;
      return (machine.live !== undefined && wasResuming) || (await owesHooks(machine));
    };
    if (!(await this.#machines.withMachine(name, hooksAreOwed))) return;
    this.#run(name, (signal) =>
      this.#machines.withMachine(name, (machine) => runAfterResume(machine, {}, quietWork(signal)), signal),
    );
  }

  async recover(): Promise<void> {
    const snapshots = this.snapshots.recover();
    await Promise.all(
      this.#machines.files().files.map(({ name }) =>
        this.#recoverOne(name).catch((error: unknown) => {
          this.#log.error({ machine: name, err: error }, "cannot bring its state in order");
        }),
      ),
    );
    await snapshots;
    for (const { name, seedOfSource } of this.#machines.files().files) {
      if (seedOfSource === true) this.#run(name, (signal) => writeSeedOf(this.#machines, name, signal));
    }
    this.#idle.begin();
    const { files, damaged } = this.#machines.files();
    const ofTemplates = await this.templates.recover();
    const asleep = new Set(files.map(({ suspended }) => suspended?.state));
    // A machine that cannot be read may be mended, and then wants its state.
    await this.#frozen.kept.sweep((state) => damaged.length > 0 || asleep.has(state));
    if (damaged.length > 0) return;
    await this.#frozen.sweep();
    const uses = await snapshotUses(this.#home);
    if (uses.damaged.length > 0) return;
    const named = new Set([
      ...uses.states,
      ...ofTemplates,
      ...files.map(({ suspended }) => suspended?.state),
    ]);
    for (const id of this.#earlier.filter((state) => !named.has(state))) {
      await removeState(this.#home, id).catch((error: unknown) =>
        this.#log.error({ state: id, err: error }, "cannot remove a state that nobody has"),
      );
    }
  }

  async recoverJob(
    kind: string,
    name: string,
    request: unknown,
    askedAt: string,
  ): Promise<"finished" | "undone" | undefined> {
    const snapshot = await this.snapshots.recoverJob(kind, name, request, askedAt);
    if (snapshot !== undefined) return snapshot;
    if (kind === "template.build") return await this.templates.recoverBuild(askedAt);
    if (kind === "machine.fork") return recoverFork(this.#machines, name, request as ForkRequest);
    const { files } = this.#machines.files();
    const here = files.some((file) => file.name === name);
    const state = here ? this.#machines.get(name).state : undefined;
    if (kind === "machine.suspend") return state === "suspended" ? "finished" : "undone";
    if (kind === "machine.start" && state === "suspended") {
      await this.resume(name, {}, quietWork());
      return "finished";
    }
    if (kind === "machine.resume") return state === "running" ? "finished" : "undone";
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#idle[Symbol.asyncDispose]();
    await this.#later[Symbol.asyncDispose]();
    await this.templates[Symbol.asyncDispose]();
    await this.#frozen[Symbol.asyncDispose]();
  }

  async reclaim(): Promise<void> {
    await this.#frozen.kept.dropAll();
    await this.templates.reclaim();
  }

  async frozenUnused(id: string): Promise<void> {
    await this.#frozen.letGo(id);
  }

  async doctor(thorough: boolean): Promise<Check[]> {
    const files = new Map(this.#machines.files().files.map((file) => [file.name, file]));
    const states = [...files.values()].flatMap(({ name, suspended }): NamedState[] =>
      suspended?.phase === "saved" && suspended.digest !== null
        ? [{ name, state: suspended.state, digest: suspended.digest }]
        : [],
    );
    const owners = [...files.keys()].map((name) => {
      const { directory } = this.#machines.get(name);
      return { home: this.#home, name, directory, current: null };
    });
    const checks: Check[] = [];
    for (const owner of owners) {
      const found = await diagnoseSnapshots(owner);
      states.push(...found.states);
      checks.push(...found.checks);
    }
    const here = async ({ name, snapshot }: NamedState, saved: HostRecord): Promise<HostRecord> => {
      const { arch, machineType } = files.get(name) as MachineFile;
      const qemu = await this.#machines.qemuVersion(arch);
      // A restore brings back the machine type, too.
      return { ...saved, arch, qemu, ...(snapshot === undefined ? { machineType } : {}) };
    };
    const ofStates = await diagnoseStates({ home: this.#home, states, here, thorough });
    return [...checks, ...ofStates, ...(await this.templates.doctor())];
  }
}

/** Whoever asks for the suspend of one that sleeps already wants it to sleep until it is resumed. */
async function sleepOn(machine: Machine): Promise<void> {
  const { suspended } = machine.file;
  if (suspended?.idle !== true) return;
  const { idle: _, ...asked } = suspended;
  await machine.save({ suspended: asked });
}

function checkRuns(machine: Machine): void {
  const { name, state, reason } = machine;
  const refuse = (why: string, hint: string): SkepError =>
    fail("STATE_NOT_RUNNING", { machine: name, why, hint });
  if (process.platform !== "linux") {
    throw refuse("its memory is in no file on this system", `stop it instead: skep stop ${name}`);
  }
  if (state === "running" && machine.live !== undefined) return;
  const why = `it is ${state}${reason === null ? "" : ` (${reason})`}`;
  throw refuse(why, machine.atRest ? `start it first: skep start ${name}` : `see: skep status ${name}`);
}
