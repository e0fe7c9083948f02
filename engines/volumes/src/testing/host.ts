import { Crash, type Random, Schedule } from "@skep/objects/simulation";

/**
 * One machine among several in the same schedule: what awaits there takes turns with all the others, and it
 * stops alone. What it waited for then never comes.
 */
export class HostSchedule extends Schedule {
  readonly #shared: Schedule;
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
    while (!this.hasCrashed) this.stopsHere();
  }

  override stopsHere(): boolean {
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

  /** What an answer to a machine that has stopped is. */
  unlessStopped<T>(answer: T | Promise<T>): T | Promise<T> {
    return this.hasCrashed ? new Promise<T>(() => undefined) : answer;
  }
}
