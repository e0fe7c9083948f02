import { setTimeout as sleep } from "node:timers/promises";
import type { Restarts } from "@skep/api/schemas";
import { bootId, quietWork } from "@skep/base";
import type { Context, MachineEvent } from "./context.ts";
import type { LiveMachine } from "./live.ts";
import { probe } from "./liveness-probe.ts";
import { watchLiveness } from "./liveness-watch.ts";
import type { Machine } from "./machine.ts";
import {
  dueInMs,
  type EndKind,
  plan,
  type RestartTimes,
  restartTimes,
  wantsRestart,
} from "./restart-record.ts";
import { startMachine } from "./start.ts";
import { stopMachine } from "./stop.ts";

/** A guest that does not do its work gets so long to shut down before it is ended. */
const stopSeconds = 30;
const closeLimitMs = 10_000;
const unseen = "it ended while skepd was not running";

interface Watch {
  live: LiveMachine;
  /** The check as it was when the watch began, to see whether it was changed. */
  check: string;
  over: AbortController;
}

/**
 * Watches what machines' checks say, and starts again what has ended or fails, as their policies say. Does nothing
 * before `begin`. A restart is a verb like others, within a turn of its machine, and gives way to what was done to
 * the machine before its turn came.
 */
export class RestartKeeper implements AsyncDisposable {
  readonly #context: Context;
  readonly #times: RestartTimes;
  readonly #over = new AbortController();
  readonly #watches = new Map<Machine, Watch>();
  readonly #due = new Map<Machine, AbortController>();
  /** Being restarted by us, so that their ends and starts say nothing new. */
  readonly #busy = new Set<Machine>();
  readonly #working = new Set<Promise<void>>();
  #begun = false;

  constructor(context: Context, times: RestartTimes = restartTimes) {
    this.#context = context;
    this.#times = times;
  }

  /** Goes on where an earlier process was; call once what it left half done is in order. */
  async begin(): Promise<void> {
    if (this.#begun || this.#over.signal.aborted) return;
    this.#begun = true;
    for (const machine of this.#context.machines.values()) {
      const { run, restarts } = machine;
      if (machine.state === "stopped") {
        // After a boot of the host, autostart says what runs.
        const ours = run !== undefined && run.bootId === bootId() && run.stopRequested !== true;
        const seen = run?.stoppedAt !== null || restarts?.dueAt != null;
        if (!ours) await this.#forgetDue(machine);
        else if (!seen && restarts?.gaveUp !== true) await this.ended(machine, "failure", unseen);
      } else await this.#forgetDue(machine);
      this.#look(machine);
    }
  }

  /** A QEMU has ended and is not yet recorded as such. Never fails. */
  async ended(machine: Machine, how: EndKind, why: string | null): Promise<void> {
    if (!this.#begun || this.#busy.has(machine) || !wantsRestart(machine.file.restart, how)) return;
    await this.#plan(machine, why ?? "it ended", goodFor(machine));
  }

  /** A person stops a machine, which until then also ends what was planned for it. */
  async stopping(machine: Machine, stop: () => Promise<void>): Promise<void> {
    await this.#forgetDue(machine);
    const note = (stopRequested: boolean) =>
      machine.saveRun(() => ({ stopRequested })).catch(this.#cannotRecord(machine));
    await note(true);
    try {
      await stop();
    } catch (error) {
      if (machine.live !== undefined) await note(false);
      throw error;
    }
  }

  noticed({ type, subject, data }: MachineEvent): void {
    const machine = this.#context.machines.get(subject);
    if (machine === undefined) {
      for (const one of [...this.#watches.keys(), ...this.#due.keys()])
        if (one.name === subject) this.#drop(one);
      return;
    }
    if (type !== "machine.state" && type !== "machine.changed") return;
    const started = machine.state === "starting" || machine.state === "resuming";
    // A person begins anew, and may do so before we begin.
    if (started && !this.#busy.has(machine) && machine.restarts !== null)
      this.#run(() => this.#save(machine, null));
    if (!this.#begun) return;
    if (type === "machine.changed" && (data as string[]).includes("restart")) {
      this.#run(() => this.#policyChanged(machine));
    }
    this.#look(machine);
  }

  /** Has the watch and the pending restart of a machine be what its state wants. */
  #look(machine: Machine): void {
    if (this.#context.machines.get(machine.name) !== machine) {
      this.#drop(machine);
      return;
    }
    const { live, state } = machine;
    const check = JSON.stringify(machine.file.check);
    const watch = this.#watches.get(machine);
    if (watch !== undefined && (watch.live !== live || watch.check !== check)) this.#endWatch(machine, watch);
    if (live !== undefined && machine.file.check !== null && !this.#watches.has(machine)) {
      const over = new AbortController();
      this.#watches.set(machine, { live, check, over });
      this.#run(() => this.#watch(machine, live, AbortSignal.any([over.signal, this.#over.signal])));
    }
    const dueAt = machine.restarts?.dueAt ?? null;
    if (dueAt === null) this.#due.get(machine)?.abort();
    else if (
      (state === "stopped" || state === "running") &&
      !this.#due.has(machine) &&
      !this.#busy.has(machine)
    ) {
      this.#arm(machine, dueAt);
    }
  }

  #endWatch(machine: Machine, { over }: Watch): void {
    over.abort();
    this.#watches.delete(machine);
    machine.liveness = null;
  }

  #drop(machine: Machine): void {
    const watch = this.#watches.get(machine);
    if (watch !== undefined) this.#endWatch(machine, watch);
    this.#due.get(machine)?.abort();
  }

  async #watch(machine: Machine, live: LiveMachine, signal: AbortSignal): Promise<void> {
    const { check } = machine.file;
    if (check === null) return;
    let told: string | undefined;
    let goodSince: number | undefined;
    await watchLiveness(live, check, signal, async () => {
      const { liveness } = machine;
      if (liveness === null || signal.aborted) return;
      const { state, why } = liveness;
      if (state !== told) {
        told = state;
        this.#context.log.info({ machine: machine.name, state, why }, "machine check");
        this.#context.emit({ type: "machine.check", subject: machine.name, data: { state, why } });
      }
      if (state === "passing") {
        goodSince = Date.parse(liveness.since);
        await this.#forgetDue(machine);
      } else if (state === "failing") {
        await this.#failing(machine, why, Date.parse(liveness.since) - (goodSince ?? Number.NaN));
      }
    });
  }

  async #failing(machine: Machine, why: string | null, goodMs: number): Promise<void> {
    const { restarts, file } = machine;
    const pending = restarts?.dueAt != null || restarts?.gaveUp === true || this.#busy.has(machine);
    if (pending || file.restart.policy === "no" || machine.state !== "running") return;
    await this.#plan(machine, `its check fails: ${why ?? ""}`, goodMs);
    this.#look(machine);
  }

  async #plan(machine: Machine, why: string, goodMs: number): Promise<void> {
    const { restart } = machine.file;
    const record = plan(restart, machine.restarts, { why, goodMs, now: Date.now() }, this.#times);
    await this.#save(machine, record);
    const { inARow, dueAt, gaveUp } = record;
    const told = { inARow, dueAt, gaveUp, why };
    this.#context.log.warn({ machine: machine.name, ...told }, gaveUp ? "given up" : "to be restarted");
    this.#context.emit({ type: "machine.restart", subject: machine.name, data: told });
  }

  async #save(machine: Machine, record: Restarts | null): Promise<void> {
    await machine.saveRestarts(record).catch(this.#cannotRecord(machine));
  }

  #cannotRecord({ name }: Machine): (error: unknown) => void {
    return (error) => this.#context.log.warn({ machine: name, err: error }, "cannot record its restarts");
  }

  async #policyChanged(machine: Machine): Promise<void> {
    const { restarts, file } = machine;
    if (file.restart.policy === "no") await this.#forgetDue(machine);
    else if (restarts?.gaveUp === true) await this.#save(machine, { ...restarts, inARow: 0, gaveUp: false });
  }

  async #forgetDue(machine: Machine): Promise<void> {
    this.#due.get(machine)?.abort();
    const { restarts } = machine;
    if (restarts === null || (restarts.dueAt === null && !restarts.gaveUp)) return;
    await this.#save(machine, { ...restarts, dueAt: null, gaveUp: false });
  }

  #arm(machine: Machine, dueAt: string): void {
    const waiting = new AbortController();
    this.#due.get(machine)?.abort();
    this.#due.set(machine, waiting);
    const signal = AbortSignal.any([waiting.signal, this.#over.signal]);
    this.#run(async () => {
      try {
        await sleep(dueInMs(dueAt, Date.now(), this.#times), undefined, { signal, ref: false });
        await this.#context.turns.run(machine.name, () => this.#restart(machine, dueAt));
      } finally {
        if (this.#due.get(machine) === waiting) this.#due.delete(machine);
      }
      this.#look(machine);
    });
  }

  /** Within a turn of the machine. Whatever a person has done to it meanwhile goes before. */
  async #restart(machine: Machine, dueAt: string): Promise<void> {
    const { signal } = this.#over;
    if (signal.aborted || this.#context.machines.get(machine.name) !== machine) return;
    if (machine.restarts?.dueAt !== dueAt) return;
    if (!(await this.#stillWanted(machine))) return await this.#forgetDue(machine);
    const { restarts } = machine;
    if (restarts === null) return;
    this.#busy.add(machine);
    try {
      const { count, inARow } = restarts;
      const lastAt = new Date().toISOString();
      await this.#save(machine, { ...restarts, count: count + 1, inARow: inARow + 1, lastAt });
      const work = quietWork(signal);
      if (machine.live !== undefined) await stopMachine(machine, { timeoutSeconds: stopSeconds }, work);
      await startMachine(machine, work);
      if (machine.restarts !== null) await this.#save(machine, { ...machine.restarts, dueAt: null });
    } catch (error) {
      if (signal.aborted) return; // the next process goes on
      await this.#plan(machine, (error as Error).message.split("\n")[0] ?? "it could not be started", 0);
    } finally {
      this.#busy.delete(machine);
    }
  }

  async #stillWanted(machine: Machine): Promise<boolean> {
    const { live, file, state } = machine;
    if (file.restart.policy === "no" || file.suspended !== null) return false;
    if (live === undefined) return state === "stopped";
    if (state !== "running" || machine.liveness?.state !== "failing" || file.check === null) return false;
    return (await probe(live, file.check, this.#over.signal)) !== undefined && machine.live === live;
  }

  #run(work: () => Promise<void>): void {
    const working = work()
      .catch((error: unknown) => {
        if ((error as Error).name === "AbortError" || this.#over.signal.aborted) return;
        this.#context.log.error({ err: error }, "cannot look after a machine");
      })
      .finally(() => this.#working.delete(working));
    this.#working.add(working);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await Promise.race([Promise.all(this.#working), sleep(closeLimitMs, undefined, { ref: false })]);
  }
}

/** How long it has done well, as far as can be told: what its check said, or else that it ran. */
function goodFor({ file, run, liveness }: Machine): number {
  const since =
    file.check === null ? run?.startedAt : liveness?.state === "passing" ? liveness.since : undefined;
  return Date.now() - Date.parse(since ?? "");
}
