import { zstdCompressSync } from "node:zlib";
import { SkepError } from "@skep/base";
import { NbdError } from "@skep/nbd";
import { Random, type Schedule, SimulatedFiles } from "@skep/objects/simulation";
import type { VolumeStore } from "../types.ts";
import { openVolumes } from "../volumes.ts";
import { DataSource } from "./data.ts";
import { HostSchedule, SharedSchedule } from "./host.ts";
import { LogicalTime } from "./model.ts";
import { type RunSettings, randomSettings } from "./settings.ts";
import { SimulatedClock } from "./simulated-clock.ts";
import { noFaults, SimulatedStore } from "./simulated-store.ts";

/** A machine with a disk of its own. */
export interface Host {
  name: string;
  files: SimulatedFiles;
  schedule: HostSchedule;
}

/** How a host ends: its process is killed; the power fails; its disk is gone too. */
export type End = "process" | "power" | "disk";

/** Everything about one seed: hosts, the object store that they share, and time. */
export class World {
  readonly random: Random;
  readonly shared: Schedule;
  readonly clock: SimulatedClock;
  readonly server: SimulatedStore;
  readonly time = new LogicalTime();
  readonly data: DataSource;
  readonly settings: RunSettings;

  constructor(seed: number, settings: Partial<RunSettings> = {}) {
    this.random = new Random(seed);
    this.settings = { ...randomSettings(this.random), ...settings };
    this.shared = new SharedSchedule(this.random, Number.POSITIVE_INFINITY);
    this.clock = new SimulatedClock(this.random, this.shared);
    this.server = new SimulatedStore(this.random, this.shared, () => this.clock.now());
    this.server.slowness = this.settings.slowness;
    this.data = new DataSource(this.random);
  }

  host(name: string): Host {
    const schedule = new HostSchedule(this.shared, this.random, Number.POSITIVE_INFINITY);
    return { name, schedule, files: new SimulatedFiles(this.random, schedule) };
  }

  /** It starts again after it has ended in some way, to stop after so many steps. */
  restart(host: Host, end: End, steps = Number.POSITIVE_INFINITY): void {
    host.schedule.stop();
    host.schedule = new HostSchedule(this.shared, this.random, steps);
    if (end === "disk") host.files = new SimulatedFiles(this.random, host.schedule);
    if (end === "power") host.files.losePower();
    host.files.restart(host.schedule);
  }

  setWeather(isBad: boolean, hosts: readonly Host[]): void {
    this.server.faults = isBad ? this.settings.faults : noFaults;
    for (const { files } of hosts) {
      files.fullProbability = isBad ? this.settings.diskFull : 0;
      files.syncFailureProbability = isBad ? this.settings.syncFailure : 0;
    }
  }

  /** The volumes as the process on a host has them, newly started. */
  start(host: Host): VolumeStore {
    const { schedule, files, name } = host;
    const { cacheBytes, segmentBytes, walLimitBytes, drainBytes, inlineBytes, earlySyncBytes } =
      this.settings;
    let nanoseconds = 0;
    return openVolumes({
      store: this.server.connect(schedule),
      directory: "/volumes",
      host: name,
      keys: {
        wrap: (key, bound) => `${bound} ${Buffer.from(key).toString("hex")}`,
        unwrap: (wrapped, bound) => {
          const [other, key = ""] = wrapped.split(" ");
          return other === bound ? Buffer.from(key, "hex") : undefined;
        },
      },
      files,
      clock: this.clock.of(schedule),
      random: (bytes) => this.random.bytes(bytes),
      pause: () => schedule.turn(),
      // Now and then the disk is slow, and what could be done at once is not for a while.
      nanoseconds: () => (nanoseconds += this.random.chance(0.02) ? 5_000_000 : 1000),
      compress: (bytes) => zstdCompressSync(bytes),
      cacheBytes,
      segmentBytes,
      walLimitBytes,
      drainBytes,
      inlineBytes,
      earlySyncBytes,
    });
  }

  /** `vol-` and 17 hexadecimal digits. */
  volumeId(): string {
    return `vol-${Buffer.from(this.random.bytes(9)).toString("hex").slice(1)}`;
  }

  /** The store goes away for a while, now and then, until what this gives is called. */
  storm(host: Host): () => void {
    let isOver = false;
    const turns = async (count: number) => {
      for (let left = count; left > 0 && !isOver; left -= 1) await this.shared.turn();
    };
    const blow = async () => {
      while (!isOver && !host.schedule.hasCrashed) {
        await this.shared.turn();
        if (isOver || !this.random.chance(this.settings.absence)) continue;
        this.server.isAbsent = true;
        await turns(this.random.below(300));
        this.server.isAbsent = false;
        await turns(100 + this.random.below(400));
      }
    };
    void blow();
    return () => {
      isOver = true;
      this.server.isAbsent = false;
    };
  }

  /** While the store fails, what needs it at once fails too; who wants it tries again. */
  async persistently<T>(work: () => Promise<T>): Promise<T> {
    for (let tries = 0; ; tries += 1) {
      try {
        return await work();
      } catch (error) {
        if (tries === 3000 || !passing.has(codeOf(error))) throw error;
        await this.shared.turn();
      }
    }
  }

  /** Lets everything happen until work that no crash interrupts is done. */
  async whole<T>(work: Promise<T>): Promise<T> {
    work.catch(() => undefined);
    await this.shared.run(work);
    this.#checkStore();
    return work;
  }

  /** Lets everything happen until the host has stopped, or the work on it is done: then gives what it gave. */
  async until<T>(host: Host, work: Promise<T>): Promise<T | undefined> {
    const first = Promise.race([work, host.schedule.stopped]);
    first.catch(() => undefined);
    await this.shared.run(first);
    this.#checkStore();
    return host.schedule.hasCrashed ? undefined : work;
  }

  #checkStore(): void {
    const { violation } = this.server;
    if (violation !== undefined) throw new Error(violation);
  }
}

const passing = new Set([
  "FOREIGN_FAILED",
  "ECONNRESET",
  "STORE_FULL",
  "ENOSPC",
  "EIO",
  "VOLUME_SOURCE_GOING",
]);

/** The name of a failure, whatever failed. */
export function codeOf(error: unknown): string {
  if (error instanceof NbdError) return error.errno;
  if (error instanceof SkepError) return error.code;
  if (error instanceof Error && error.name === "AbortError") return "ABORT_ERR";
  const { code } = (error ?? {}) as { code?: unknown };
  return typeof code === "string" ? code : String(error);
}
