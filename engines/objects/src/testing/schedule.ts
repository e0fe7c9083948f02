import { setImmediate as nextTurn } from "node:timers/promises";
import type { Random } from "./random.ts";

/** The machine has stopped: nothing that ran on it goes on. */
export class Crash extends Error {
  constructor() {
    super("the simulated machine has stopped");
  }
}

/**
 * Decides what happens next, and when the machine stops. Whatever awaits here goes on in an order that
 * follows from the seed, one at a time.
 */
export class Schedule {
  readonly #random: Random;
  readonly #waiting: (() => void)[] = [];
  #stepsLeft: number;
  #hasCrashed = false;

  /** It stops after that many steps. */
  constructor(random: Random, steps: number) {
    this.#random = random;
    this.#stepsLeft = steps;
  }

  get hasCrashed(): boolean {
    return this.#hasCrashed;
  }

  /** Counts a step: true where the machine stops in it. Throws Crash once it has stopped. */
  stopsHere(): boolean {
    if (this.#hasCrashed) throw new Crash();
    this.#stepsLeft -= 1;
    if (this.#stepsLeft > 0) return false;
    this.#hasCrashed = true;
    return true;
  }

  turn(): Promise<void> {
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  defer(work: () => void): void {
    this.#waiting.push(work);
  }

  /** Lets things happen until `work` is done or the machine has stopped and nothing is left to do. */
  async run(work: Promise<unknown>): Promise<void> {
    let isDone = false;
    const done = () => {
      isDone = true;
    };
    work.then(done, done);
    let idleTurns = 0;
    while (!isDone) {
      await nextTurn();
      if (this.#waiting.length === 0) {
        idleTurns += 1;
        if (idleTurns < 20) continue;
        if (this.#hasCrashed) return;
        throw new Error("nothing is left to do and the work is not done");
      }
      idleTurns = 0;
      const [next] = this.#waiting.splice(this.#random.below(this.#waiting.length), 1);
      next?.();
    }
  }
}
