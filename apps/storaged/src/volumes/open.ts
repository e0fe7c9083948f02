import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { KeyedMutex, toSkepError } from "@skep/base";
import { NbdServer } from "@skep/nbd";
import type { OpenVolume, VolumeStore } from "@skep/volumes";
import type { Logger } from "pino";
import type { Attached, VolumeRecord } from "./records.ts";

/** A store that does not answer shall not hold up a detach for ever: the rest then stays in the log here. */
const drainLimitMs = 30_000;
const firstRetryMs = 1000;
const longestRetryMs = 30_000;

interface Opened {
  volume: OpenVolume;
  uses: number;
}

interface Serving {
  attached: Attached;
  server: NbdServer | undefined;
  /** Ends what is still trying to open it. */
  ending: AbortController;
  /** Settles when it has been opened, or has failed to be for the first time. */
  tried: Promise<void>;
  settled: Promise<void>;
  problem: string | null;
}

export interface OpenVolumesOptions {
  /** The directory of sockets. */
  sockets: string;
  volumesOf(record: VolumeRecord): Promise<VolumeStore>;
  log: Logger;
}

/**
 * What is open in this process. A volume is open for as long as anything uses it: its export, an exposed
 * copy, a verb.
 */
export class OpenVolumes implements AsyncDisposable {
  readonly #options: OpenVolumesOptions;
  readonly #opened = new Map<string, Opened>();
  readonly #serving = new Map<string, Serving>();
  readonly #turns = new KeyedMutex();
  #exposures = 0;
  /** By socket. */
  readonly #exposed = new Map<
    string,
    { id: string; conceal(how: { drain: boolean }): void; ended: Promise<void> }
  >();
  #isClosing = false;

  constructor(options: OpenVolumesOptions) {
    this.#options = options;
  }

  get(id: string): OpenVolume | undefined {
    return this.#opened.get(id)?.volume;
  }

  /** Where it is served, who is connected, and why it is not served although it should be. */
  serving(id: string): { socket: string; clients: number; problem: string | null } | undefined {
    const serving = this.#serving.get(id);
    if (serving === undefined) return undefined;
    const { server, problem } = serving;
    return { socket: this.socketOf(id), clients: server?.clients() ?? 0, problem };
  }

  socketOf(id: string): string {
    return join(this.#options.sockets, id.slice("vol-".length));
  }

  /** Opens it for one piece of work where it is not open. */
  async use<T>(
    record: VolumeRecord,
    work: (volume: OpenVolume) => Promise<T>,
    options: { takeOver?: boolean } = {},
  ): Promise<T> {
    const volume = await this.#acquire(record, options);
    try {
      return await work(volume);
    } finally {
      await this.#release(record.id);
    }
  }

  /** Opens it where it is not open; it stays so until what this gives is disposed of. */
  async hold(record: VolumeRecord): Promise<{ volume: OpenVolume } & AsyncDisposable> {
    const volume = await this.#acquire(record);
    return { volume, [Symbol.asyncDispose]: () => this.#release(record.id) };
  }

  #acquire(record: VolumeRecord, options: { takeOver?: boolean } = {}): Promise<OpenVolume> {
    return this.#turns.run(record.id, async () => {
      const there = this.#opened.get(record.id);
      if (there !== undefined) {
        there.uses += 1;
        return there.volume;
      }
      const volumes = await this.#options.volumesOf(record);
      const volume = await volumes.open(record.id, options);
      this.#opened.set(record.id, { volume, uses: 1 });
      return volume;
    });
  }

  #release(id: string, how: { drain: boolean } = { drain: true }): Promise<void> {
    return this.#turns.run(id, async () => {
      const opened = this.#opened.get(id);
      if (opened === undefined) return;
      opened.uses -= 1;
      if (opened.uses > 0) return;
      try {
        await this.#close(opened.volume, how.drain);
      } finally {
        this.#opened.delete(id);
      }
    });
  }

  async #close(volume: OpenVolume, drain: boolean): Promise<void> {
    if (drain && !this.#isClosing) {
      try {
        return await volume.close({ signal: AbortSignal.timeout(drainLimitMs) });
      } catch (error) {
        this.#options.log.warn({ err: error, volume: volume.id }, "closed before the store had everything");
      }
    }
    await volume.close({ drain: false });
  }

  /** Opens and serves it; throws where that fails, and then nothing is served. */
  async serve(record: VolumeRecord, attached: Attached): Promise<void> {
    if (this.#serving.has(record.id)) return;
    const serving = this.#newServing(attached);
    this.#serving.set(record.id, serving);
    try {
      await this.#start(record, serving);
    } catch (error) {
      this.#serving.delete(record.id);
      throw error;
    }
  }

  /**
   * Opens and serves it, and goes on trying when that fails: a guest waits for it. Settles when it is served,
   * or the first try has failed.
   */
  keepServing(record: VolumeRecord, attached: Attached): Promise<void> {
    const serving = this.#newServing(attached);
    this.#serving.set(record.id, serving);
    const tried = Promise.withResolvers<void>();
    serving.tried = tried.promise;
    serving.settled = this.#tryUntilServed(record, serving, tried.resolve);
    return serving.tried;
  }

  #newServing(attached: Attached): Serving {
    const done = Promise.resolve();
    const ending = new AbortController();
    return { attached, server: undefined, ending, tried: done, settled: done, problem: null };
  }

  async #tryUntilServed(record: VolumeRecord, serving: Serving, tried: () => void): Promise<void> {
    const { signal } = serving.ending;
    for (let waitMs = firstRetryMs; !signal.aborted; waitMs = Math.min(waitMs * 2, longestRetryMs)) {
      try {
        await this.#start(record, serving);
        serving.problem = null;
        return tried();
      } catch (error) {
        serving.problem = toSkepError(error).message;
        this.#options.log.error({ err: error, volume: record.id }, "cannot open the volume; trying again");
        tried();
      }
      await sleep(waitMs, undefined, { signal }).catch(() => undefined);
    }
  }

  async #start(record: VolumeRecord, serving: Serving): Promise<void> {
    const { id } = record;
    const { owner, everyWriteFua } = serving.attached;
    const volume = await this.#acquire(record);
    try {
      const server = this.#newServer();
      server.add({ name: id, device: volume, everyWriteFua });
      serving.server = server;
      if (serving.ending.signal.aborted) throw serving.ending.signal.reason;
      await server.listen({ path: this.socketOf(id), only: id, ...(owner === null ? {} : { owner }) });
    } catch (error) {
      await serving.server?.close();
      serving.server = undefined;
      await this.#release(id);
      throw error;
    }
  }

  #newServer(): NbdServer {
    const { log } = this.#options;
    return new NbdServer({ onError: (error, where) => log.error({ err: error, ...where }, "NBD") });
  }

  /** Its clients connect anew: after a change of its size. */
  async reconnect(id: string): Promise<void> {
    await this.#serving.get(id)?.server?.reconnect(id);
  }

  /** Ends the export, and closes the volume unless something else uses it. */
  async stopServing(id: string): Promise<void> {
    const serving = this.#serving.get(id);
    if (serving === undefined) return;
    serving.ending.abort();
    await serving.settled;
    this.#serving.delete(id);
    if (serving.server === undefined) return;
    await serving.server.close();
    await this.#release(id);
  }

  /** A socket of its own for skepd, until it is concealed or the signal is aborted; closed when this ends. */
  async *expose(
    record: VolumeRecord,
    options: { readOnly: boolean; signal: AbortSignal },
  ): AsyncGenerator<{ socket: string; export: string; sizeBytes: number }> {
    const { id } = record;
    const volume = await this.#acquire(record);
    this.#exposures += 1;
    const socket = `${this.socketOf(id)}-${this.#exposures}`;
    const ended = Promise.withResolvers<void>();
    const concealed = Promise.withResolvers<{ drain: boolean }>();
    this.#exposed.set(socket, { id, conceal: concealed.resolve, ended: ended.promise });
    let how = { drain: false };
    try {
      await using server = this.#newServer();
      server.add({ name: id, device: volume, readOnly: options.readOnly });
      await server.listen({ path: socket, only: id });
      yield { socket, export: id, sizeBytes: volume.sizeBytes };
      if (options.signal.aborted) return;
      options.signal.addEventListener("abort", () => concealed.resolve({ drain: false }), { once: true });
      how = await concealed.promise;
    } finally {
      await this.#release(id, how).finally(() => {
        this.#exposed.delete(socket);
        ended.resolve();
      });
    }
  }

  /** Ends an exposure; without `drain` nobody wants what was written there. */
  conceal(socket: string, how: { drain: boolean }): void {
    this.#exposed.get(socket)?.conceal(how);
  }

  /** Ends all exposures of a volume that is to be removed; settles when they have ended. */
  async concealAll(id: string): Promise<void> {
    const exposed = [...this.#exposed.values()].filter((one) => one.id === id);
    for (const { conceal } of exposed) conceal({ drain: false });
    await Promise.all(exposed.map(({ ended }) => ended));
  }

  /** Closes without waiting for the store: what is not there stays in the logs here. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosing = true;
    await Promise.all([...this.#serving.keys()].map((id) => this.stopServing(id)));
    await Promise.all([...this.#opened.values()].map(({ volume }) => volume.close({ drain: false })));
  }
}
