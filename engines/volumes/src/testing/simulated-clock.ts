import type { Random, Schedule } from "@skep/objects/simulation";
import type { Clock } from "../types.ts";
import type { HostSchedule } from "./host.ts";

interface Sleeper {
  at: number;
  wake: () => void;
}

/** How often a timer may be passed over for other work before it goes off. */
const patience = 12;

/**
 * The time of all simulated hosts. It stands still while there is other work, mostly: when the schedule turns
 * to a timer, the time becomes that of the earliest one. So ten minutes pass in no time, timers go off in
 * their order, and late where the machine was busy.
 */
export class SimulatedClock {
  readonly #random: Random;
  readonly #shared: Schedule;
  readonly #sleepers: Sleeper[] = [];
  #now = 1_700_000_000_000;

  constructor(random: Random, shared: Schedule) {
    this.#random = random;
    this.#shared = shared;
  }

  now(): number {
    return this.#now;
  }

  /** The clock as a host sees it. */
  of(host: HostSchedule): Clock {
    return {
      now: () => this.#now,
      sleep: (milliseconds, signal) => this.#sleep(milliseconds, signal, host),
    };
  }

  #sleep(milliseconds: number, signal: AbortSignal | undefined, host: HostSchedule): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason as Error);
        return;
      }
      const sleeper: Sleeper = {
        at: this.#now + Math.max(0, milliseconds),
        wake: () => {
          signal?.removeEventListener("abort", abort);
          if (!host.hasCrashed) resolve();
        },
      };
      const abort = () => {
        this.#sleepers.splice(this.#sleepers.indexOf(sleeper), 1);
        reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#sleepers.push(sleeper);
      this.#wait(this.#random.below(patience));
    });
  }

  #wait(turns: number): void {
    this.#shared.defer(() => {
      if (turns > 0) this.#wait(turns - 1);
      else this.#wakeEarliest();
    });
  }

  #wakeEarliest(): void {
    let earliest: Sleeper | undefined;
    for (const sleeper of this.#sleepers) {
      if (earliest === undefined || sleeper.at < earliest.at) earliest = sleeper;
    }
    if (earliest === undefined) return;
    this.#sleepers.splice(this.#sleepers.indexOf(earliest), 1);
    this.#now = Math.max(this.#now, earliest.at);
    earliest.wake();
  }
}
