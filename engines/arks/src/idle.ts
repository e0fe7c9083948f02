import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import type { Port } from "@skep/api/schemas";
import { KeyedMutex, quietWork, type Work } from "@skep/base";
import {
  closeForward,
  forwardName,
  forwardsOf,
  type LiveMachine,
  type Log,
  type Machine,
  type MachineEvent,
  type Machines,
  openForwardSomewhere,
  openForwards,
} from "@skep/machines";
import { HeldPorts } from "./idle-ports.ts";
import type { IdleSigns } from "./idle-signs.ts";
import { type IdleTimes, idleTimes, type Outcome, watchIdle } from "./idle-watch.ts";

const closeLimitMs = 10_000;
/** After a machine could not be woken, whoever calls is turned away for so long. */
const deafMs = 5000;

export interface IdleOptions {
  machines: Machines;
  log: Log;
  times?: IdleTimes;
  /** Suspends a machine within its turn; `last` is called when its guest's hooks have run. */
  suspend(machine: Machine, work: Work, last: () => Promise<void>): Promise<void>;
  resume(name: string, work: Work): Promise<void>;
}

interface Watch {
  live: LiveMachine;
  afterSeconds: number;
  over: AbortController;
}

/**
 * Suspends machines that nobody uses, listens on their ports while they sleep, and wakes them when somebody
 * connects. Only the ones that it has suspended itself are woken. Does nothing before `begin`.
 */
export class IdleKeeper implements AsyncDisposable {
  readonly #options: IdleOptions;
  readonly #over = new AbortController();
  readonly #watches = new Map<Machine, Watch>();
  readonly #ports = new Map<Machine, HeldPorts>();
  /** Machines that are just being suspended, each with what calls that off. */
  readonly #attempts = new Map<Machine, { off: AbortController; done: Promise<unknown> }>();
  readonly #waking = new Map<Machine, Promise<void>>();
  readonly #deafUntil = new Map<Machine, number>();
  readonly #settling = new KeyedMutex();
  readonly #working = new Set<Promise<void>>();
  #begun = false;

  constructor(options: IdleOptions) {
    this.#options = options;
  }

  /** Goes on where an earlier process was; call once what it left half done is in order. */
  begin(): void {
    if (this.#over.signal.aborted) return;
    this.#begun = true;
    for (const machine of this.#options.machines.all()) {
      // It may have been killed between a machine's QEMU and its ports.
      this.#run(machine, () => this.#settle(machine, true));
      this.#look(machine);
    }
  }

  noticed({ type, subject }: MachineEvent): void {
    if (!this.#begun || this.#over.signal.aborted) return;
    if (type === "machine.removed") {
      for (const machine of new Set([...this.#watches.keys(), ...this.#ports.keys()])) {
        if (machine.name === subject) this.#forget(machine);
      }
    }
    if (type !== "machine.state" && type !== "machine.changed" && type !== "machine.created") return;
    for (const machine of this.#options.machines.all()) if (machine.name === subject) this.#look(machine);
  }

  /**
   * Has a machine go on that sleeps because nobody used it, and does nothing to any other. However many ask, it is
   * resumed once. Fails as a resume does.
   */
  async wake(name: string): Promise<void> {
    const machine = [...this.#options.machines.all()].find((one) => one.name === name);
    if (machine === undefined) return;
    const attempt = this.#attempts.get(machine);
    attempt?.off.abort();
    await attempt?.done.catch(() => undefined);
    if (sleepsIdle(machine)) await this.#wake(machine);
    // Its ports are its own before anybody is sent there.
    await this.#settle(machine);
  }

  #wake(machine: Machine): Promise<void> {
    const waking = this.#waking.get(machine) ?? this.#resume(machine);
    this.#waking.set(machine, waking);
    return waking;
  }

  async #resume(machine: Machine): Promise<void> {
    const { log, resume } = this.#options;
    try {
      log.info({ machine: machine.name }, "waking");
      await resume(machine.name, quietWork(this.#over.signal));
    } catch (error) {
      if (this.#over.signal.aborted) throw error;
      log.error({ machine: machine.name, err: error }, "cannot wake it");
      this.#deafUntil.set(machine, performance.now() + deafMs);
      this.#ports.get(machine)?.hangUp();
      const why = (error as Error).message.split("\n")[0];
      if (sleepsIdle(machine)) machine.setState("suspended", `it could not be woken: ${why}`);
      throw error;
    } finally {
      this.#waking.delete(machine);
    }
  }

  /** Has the watch and the ports of a machine be what its state wants. */
  #look(machine: Machine): void {
    const { live, file, state } = machine;
    const { suspendAfterSeconds: after } = file;
    const watch = this.#watches.get(machine);
    if (watch !== undefined && (watch.live !== live || watch.afterSeconds !== after))
      this.#unwatch(machine, watch);
    const awake = state === "running" || state === "paused";
    if (live !== undefined && after !== null && awake && !this.#watches.has(machine)) {
      const over = new AbortController();
      this.#watches.set(machine, { live, afterSeconds: after, over });
      const signal = AbortSignal.any([over.signal, this.#over.signal]);
      const suspend = (signs: IdleSigns) => this.#suspend(machine, live, signs);
      const { times = idleTimes } = this.#options;
      this.#run(machine, () => watchIdle(live, after * 1000, { signal, times, suspend }));
    }
    if (machine.forwardsHeld || sleepsIdle(machine)) this.#run(machine, () => this.#settle(machine));
  }

  #unwatch(machine: Machine, { over }: Watch): void {
    over.abort();
    this.#watches.delete(machine);
    machine.idle = null;
  }

  #forget(machine: Machine): void {
    const watch = this.#watches.get(machine);
    if (watch !== undefined) this.#unwatch(machine, watch);
    this.#deafUntil.delete(machine);
    this.#run(machine, () => this.#settle(machine));
  }

  /** Suspends it, unless it is used again meanwhile. */
  async #suspend(machine: Machine, live: LiveMachine, signs: IdleSigns): Promise<Outcome> {
    const off = new AbortController();
    const done = this.#attempt(live, signs, off);
    this.#attempts.set(machine, { off, done });
    try {
      return await done;
    } catch (error) {
      if (!off.signal.aborted) throw error;
      this.#options.log.info({ machine: machine.name }, "used again: not suspended");
      return "used";
    }
  }

  async #attempt(live: LiveMachine, signs: IdleSigns, off: AbortController): Promise<Outcome> {
    const { machine } = live;
    const { machines, log, suspend } = this.#options;
    const checkIdle = async () => {
      const { open } = await signs.connections();
      if (machine.uses.inUse || live.console.isWatched || open > 0) off.abort();
      off.signal.throwIfAborted();
    };
    const suspendIt = async (present: Machine): Promise<Outcome> => {
      if (present !== machine || machine.live !== live || machine.state !== "running") return "used";
      await checkIdle();
      log.info({ machine: machine.name }, "idle: suspending");
      const signal = AbortSignal.any([off.signal, this.#over.signal]);
      await suspend(machine, quietWork(signal), async () => {
        await this.#settling.run(machine.file.id, () => this.#takePorts(live, checkIdle));
        // Who comes from here on is held, and calls it off.
        await checkIdle();
      });
      return "suspended";
    };
    try {
      return await machines.tend(machine.name, suspendIt);
    } finally {
      this.#attempts.delete(machine);
      await this.#settle(machine);
    }
  }

  #heldPorts(machine: Machine): HeldPorts {
    const onCall = () => this.#called(machine);
    const held = this.#ports.get(machine) ?? new HeldPorts({ onCall, isOwn: (one) => isOwn(machine, one) });
    this.#ports.set(machine, held);
    return held;
  }

  /** Somebody wants something from a machine whose ports are held. */
  #called(machine: Machine): void {
    const attempt = this.#attempts.get(machine);
    if (attempt !== undefined) attempt.off.abort();
    else if ((this.#deafUntil.get(machine) ?? 0) > performance.now()) this.#ports.get(machine)?.hangUp();
    else if (sleepsIdle(machine)) {
      // What goes wrong is told there, once for all who ask.
      this.#run(machine, () => this.#wake(machine).catch(() => undefined));
    }
  }

  async #takePorts(live: LiveMachine, checkIdle: () => Promise<void>): Promise<void> {
    const { machine } = live;
    this.#over.signal.throwIfAborted();
    machine.forwardsHeld = true;
    const held = this.#heldPorts(machine);
    const taken = [];
    for (const port of forwardsOf(machine)) {
      // Whom QEMU has not accepted yet, it resets when it closes.
      await checkIdle();
      await closeForward(live, port);
      taken.push(port);
      const [failed] = await held.listen(taken);
      if (failed !== undefined) throw new Error(`port ${failed.port.hostPort} cannot be held: ${failed.why}`);
    }
  }

  /** One after another for a machine; whatever has changed meanwhile, the last call sees it. */
  async #settle(machine: Machine, mend = false): Promise<void> {
    await this.#settling.run(machine.file.id, async () => {
      const { live, state } = machine;
      if (this.#attempts.has(machine)) return;
      if (isRemoved(machine)) {
        this.#ports.get(machine)?.destroy();
        this.#ports.delete(machine);
      } else if (sleepsIdle(machine)) await this.#hold(machine);
      else if (live !== undefined && (state === "running" || state === "paused")) {
        if (machine.forwardsHeld || mend) await this.#giveBack(live);
      } else if (machine.atRest) {
        this.#ports.get(machine)?.close();
        machine.forwardsHeld = false;
      }
    });
  }

  async #hold(machine: Machine): Promise<void> {
    if (this.#over.signal.aborted) return;
    machine.forwardsHeld = true;
    const held = this.#heldPorts(machine);
    const failed = await held.listen(forwardsOf(machine));
    if (!sleepsIdle(machine)) return;
    if (failed.length > 0)
      machine.setState("suspended", failed.map(({ port, why }) => lost(port, why)).join("; "));
    if (held.isCalled) this.#called(machine);
  }

  /** Has QEMU listen on what it does not listen on, and hands on to it who has come meanwhile. */
  async #giveBack(live: LiveMachine): Promise<void> {
    const { machine } = live;
    const held = this.#heldPorts(machine);
    const open = await openForwards(live);
    const failed = [];
    for (const port of forwardsOf(machine)) {
      if (open.has(forwardName(port))) continue;
      await held.release(port);
      const opened = await openForwardSomewhere(live, port);
      if ("why" in opened) {
        failed.push(lost(port, opened.why));
        continue;
      }
      held.handOn(port, opened.open);
    }
    machine.forwardsHeld = false;
    held.close();
    if (failed.length === 0) return;
    this.#options.log.warn({ machine: machine.name, failed }, "ports are not forwarded");
    if (machine.live === live) machine.setState(machine.state, failed.join("; "));
  }

  #run(machine: Machine, work: () => Promise<void>): void {
    const working = work()
      .catch((error: unknown) => {
        if ((error as Error).name === "AbortError" || this.#over.signal.aborted) return;
        this.#options.log.warn({ machine: machine.name, err: error }, "cannot see to an idle machine");
      })
      .finally(() => this.#working.delete(working));
    this.#working.add(working);
  }

  /** Machines run on; those that sleep are not woken any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await Promise.race([Promise.all(this.#working), sleep(closeLimitMs, undefined, { ref: false })]);
    for (const held of this.#ports.values()) held.destroy();
  }
}

function sleepsIdle(machine: Machine): boolean {
  const { state, file } = machine;
  return state === "suspended" && file.suspended?.idle === true && !isRemoved(machine);
}

function isRemoved(machine: Machine): boolean {
  return machine.context.machines.get(machine.name) !== machine;
}

/** As of its check. */
function isOwn({ uses }: Machine, client: Socket): boolean {
  const { remoteAddress = "", remotePort = 0, localAddress = "", localPort = 0 } = client;
  return uses.isOwn({ address: remoteAddress, port: remotePort }, { address: localAddress, port: localPort });
}

function lost({ hostPort }: Port, why: string): string {
  return `port ${hostPort} is not forwarded: ${why}`;
}
