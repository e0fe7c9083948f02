import { DatabaseSync } from "node:sqlite";
import type { IndexSource } from "../host/open.ts";
import { prepareIndex } from "../index/schema.ts";
import type { Random } from "./random.ts";
import { Crash, type Schedule } from "./schedule.ts";

/** SQLite in memory, whose commits are steps at which the machine may stop. */
export class SimulatedIndex implements IndexSource {
  readonly #random: Random;
  #schedule: Schedule;
  #database: DatabaseSync | undefined;
  /** As a commit left it: now, or earlier, as `synchronous=NORMAL` allows after a power loss. */
  #kept: Uint8Array | undefined;
  #stable: Uint8Array | undefined;
  fullProbability = 0;

  constructor(random: Random, schedule: Schedule) {
    this.#random = random;
    this.#schedule = schedule;
  }

  open(): DatabaseSync {
    const database = new SteppingDatabase((sql, run) => this.#exec(sql, run));
    if (this.#kept !== undefined) database.deserialize(this.#kept);
    database.exec("PRAGMA synchronous=off; PRAGMA cache_size=-2000");
    prepareIndex(database);
    this.#database = database;
    return database;
  }

  get current(): DatabaseSync {
    return this.#database as DatabaseSync;
  }

  discard(): void {
    this.#kept = undefined;
    this.#stable = undefined;
  }

  #exec(sql: string, run: () => void): void {
    if (sql !== "COMMIT") {
      run();
      return;
    }
    if (this.#schedule.stopsHere()) throw new Crash();
    if (this.#random.chance(this.fullProbability)) {
      throw Object.assign(new Error("database or disk is full"), { errcode: 13 });
    }
    run();
    if (this.#random.chance(0.1)) this.#stable = this.#database?.serialize();
    // The answer to what was committed is never given.
    if (this.#schedule.stopsHere()) throw new Crash();
  }

  /** The machine starts again; after a power loss the last commits may be gone, or all. */
  restart(schedule: Schedule, lostPower: boolean): void {
    this.#schedule = schedule;
    const database = this.#database;
    if (database?.isOpen === true) {
      if (database.isTransaction) database.exec("ROLLBACK");
      this.#kept = database.serialize();
      database.close();
    }
    this.#database = undefined;
    if (lostPower) {
      const fate = this.#random.below(4);
      if (fate === 0) this.#kept = undefined;
      else if (fate === 1) this.#kept = this.#stable;
    }
    this.#stable = this.#kept;
  }
}

class SteppingDatabase extends DatabaseSync {
  readonly #around: (sql: string, run: () => void) => void;

  constructor(around: (sql: string, run: () => void) => void) {
    super(":memory:");
    this.#around = around;
  }

  override exec(sql: string): void {
    this.#around(sql, () => super.exec(sql));
  }
}
