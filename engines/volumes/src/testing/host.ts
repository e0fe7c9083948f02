import { Crash, type Random, Schedule } from "@skep/objects/simulation";

/** Of all that one seed may do: it does far less, unless it turns in circles. */
const mostTurns = 400_000;

/** What all machines and the store between them take turns in. */
export class SharedSchedule extends Schedule {
  #turns = 0;
  readonly #exhausted = Promise.withResolvers<never>();

  override turn(): Promise<void> {
    return new Promise((resolve) => this.defer(resolve));
  }

  override defer(work: () => void): void {
    this.#turns += 1;
    if (this.#turns > mostTurns) this.#exhausted.reject(new Error("it comes to no end"));
    else super.defer(work);
  }

  override run(work: Promise<unknown>): Promise<void> {
    const end = Promise.race([work, this.#exhausted.promise]);
    return super.run(end).then(() => {
      if (this.#turns > mostTurns) return this.#exhausted.promise;
    });
  }
}

/**
 * One machine among several in the same schedule: what awaits there takes turns with all the others, and it
 * stops alone. What it waited for then never comes.
 */
export class HostSchedule extends Schedule {
  readonly #shared: Schedule;
  #isStopped = false;
  readonly #stopped = Promise.withResolvers<void>();

  /** It stops after that many steps. */
  constructor(shared: Schedule, random: Random, steps: number) {
    super(random, steps);
    this.#shared = shared;
  }

  /** Settles when it has stopped. */
  get stopped(): Promise<void> {
    return this.#stopped.promise;
  }

  /** The host loses its power, or someone kills the process, now. */
  stop(): void {
    this.#isStopped = true;
    this.#stopped.resolve();
  }

  override get hasCrashed(): boolean {
    return this.#isStopped || super.hasCrashed;
  }

  override stopsHere(): boolean {
    if (this.#isStopped) throw new Crash();
    const stops = super.stopsHere();
    if (stops) this.#stopped.resolve();
    return stops;
  }

  /** A step without a middle. */
  step(): void {
    if (this.stopsHere()) throw new Crash();
  }

  override turn(): Promise<void> {
    return new Promise((resolve) => this.defer(resolve));
  }

  override defer(work: () => void): void {
    this.#shared.defer(() => {
      if (!this.hasCrashed) work();
    });
  }

  /** An answer, which a machine that has stopped never gets. */
  unlessStopped<T>(answer: () => T): T | Promise<T> {
    return this.hasCrashed ? new Promise<T>(() => undefined) : answer();
  }
}
