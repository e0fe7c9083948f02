import { hash } from "node:crypto";
import { SkepError } from "@skep/base";
import { type Bytes, MemoryStore, type ObjectStore, type StoredObject } from "@skep/objects";
import type { Random, Schedule } from "@skep/objects/simulation";
import type { HostSchedule } from "./host.ts";

/** How often, from 0 to 1, what goes wrong. */
export interface StoreFaults {
  /** The request never arrives. */
  lostRequest: number;
  /** It is done and nobody is told. */
  lostAnswer: number;
  /** It is done twice; the answer may be the second one's. */
  twice: number;
  /** The sender is told that it failed, and it is done a while after. */
  late: number;
  /** A body ends too early, without an error. */
  shortRead: number;
  /** There is no room. */
  full: number;
}

export const noFaults: StoreFaults = {
  lostRequest: 0,
  lostAnswer: 0,
  twice: 0,
  late: 0,
  shortRead: 0,
  full: 0,
};

/** An object store on a machine of its own: it outlives the hosts that use it. */
export class SimulatedStore {
  readonly #random: Random;
  readonly #shared: Schedule;
  readonly memory: MemoryStore;
  #underWay = 0;
  faults = noFaults;
  /** Nothing gets through while it is. */
  isAbsent = false;
  /** At most that many turns a way. */
  slowness = 3;
  /** What was sent: a key and the length of its bytes a put. */
  puts: { key: string; sizeBytes: number }[] = [];
  /** Called before a request is done; what it throws is the answer. */
  onRequest: ((verb: string, key: string, host: HostSchedule) => void | Promise<void>) | undefined;
  /** What no volume may do, where one did. */
  violation: string | undefined;
  readonly #sent = new Map<string, string>();

  constructor(random: Random, shared: Schedule, clock: () => number) {
    this.#random = random;
    this.#shared = shared;
    this.memory = new MemoryStore({ clock, minimumPartBytes: 0 });
  }

  /** Waits until nothing is under way any more, of hosts that have stopped since either. */
  async settle(): Promise<void> {
    while (this.#underWay > 0) await this.#shared.turn();
  }

  /** Everything in it. */
  async keys(prefix = ""): Promise<string[]> {
    const keys: string[] = [];
    let continuation: string | undefined;
    do {
      const page = await this.memory.list(continuation === undefined ? { prefix } : { prefix, continuation });
      keys.push(...page.objects.map((object) => object.key));
      continuation = page.next;
    } while (continuation !== undefined);
    return keys;
  }

  async bytes(key: string): Promise<Buffer> {
    return collect((await this.memory.get(key)).body);
  }

  /** The store as a host sees it. */
  connect(host: HostSchedule): ObjectStore {
    const call = <T>(verb: string, key: string, signal: AbortSignal | undefined, work: () => Promise<T>) =>
      unlessAborted(signal, () => this.#call(host, verb, key, work));
    return {
      get: async (key, { signal, ...options } = {}) => {
        const found = await call("get", key, signal, async () => {
          const object = await this.memory.get(key, options);
          return { ...object, bytes: await collect(object.body) };
        });
        const { bytes, ...object } = found;
        return { ...object, body: this.#body(host, bytes) } satisfies StoredObject;
      },
      head: (key, { signal } = {}) => call("head", key, signal, () => this.memory.head(key)),
      put: async (key, body, { signal, ...request } = {}) => {
        // What is sent is sent: the sender may use its memory again once it was told of a failure.
        const bytes = body instanceof Uint8Array ? Buffer.from(body) : await collect(body);
        this.puts.push({ key, sizeBytes: bytes.length });
        this.#watch(key, bytes);
        return call("put", key, signal, () => this.memory.put(key, bytes, request));
      },
      delete: (key, { signal, ...condition } = {}) =>
        call("delete", key, signal, () => this.memory.delete(key, condition)),
      list: ({ signal, ...request } = {}) =>
        call("list", request.prefix ?? "", signal, () => this.memory.list(request)),
      createUpload: () => {
        throw new Error("no volume uploads in parts");
      },
      [Symbol.asyncDispose]: async () => undefined,
    };
  }

  /** But for manifests no name is ever used for two things: a late request could bring back the other one. */
  #watch(key: string, bytes: Buffer): void {
    if (key.endsWith("/config.json")) return;
    const digest = hash("md5", bytes, "hex");
    const sent = this.#sent.get(key);
    if (sent !== undefined && sent !== digest) this.violation ??= `two different objects are put as ${key}`;
    this.#sent.set(key, digest);
  }

  async #call<T>(host: HostSchedule, verb: string, key: string, work: () => Promise<T>): Promise<T> {
    const { lostRequest, lostAnswer, twice, late, full } = this.faults;
    const changes = verb === "put" || verb === "delete";
    host.step();
    this.#underWay += 1;
    await this.#travel();
    await this.onRequest?.(verb, key, host);
    this.#underWay -= 1;
    if (this.isAbsent || this.#random.chance(lostRequest)) return host.unlessStopped(() => this.#refuse());
    if (verb === "put" && this.#random.chance(full)) {
      return host.unlessStopped(() => {
        throw error("STORE_FULL", "the disk of the object store is full");
      });
    }
    if (changes && this.#random.chance(late)) {
      void this.#doLater(10 + this.#random.below(60), work);
      return host.unlessStopped(() => this.#refuse());
    }
    let answer = await settled(work);
    if (changes && this.#random.chance(twice)) {
      if (this.#random.chance(0.5)) answer = await settled(work);
      else void this.#doLater(this.#random.below(60), work);
    }
    await this.#travel();
    if (host.hasCrashed) return new Promise<T>(() => undefined);
    host.step();
    if (this.#random.chance(lostAnswer)) return this.#refuse();
    return answer();
  }

  async #travel(): Promise<void> {
    for (let turns = 1 + this.#random.below(this.slowness); turns > 0; turns -= 1) await this.#shared.turn();
  }

  async #doLater(turns: number, work: () => Promise<unknown>): Promise<void> {
    this.#underWay += 1;
    for (let left = turns; left > 0; left -= 1) await this.#shared.turn();
    await settled(work);
    this.#underWay -= 1;
  }

  #refuse(): never {
    throw this.#random.chance(0.5)
      ? error("FOREIGN_FAILED", "the object store at simulated failed: 503 Slow Down")
      : Object.assign(new Error("socket hang up"), { code: "ECONNRESET" });
  }

  async *#body(host: HostSchedule, whole: Buffer): Bytes {
    const cut = this.#random.chance(this.faults.shortRead);
    const bytes = cut ? whole.subarray(0, this.#random.below(whole.length)) : whole;
    for (let at = 0; at < bytes.length; ) {
      await host.turn();
      const end = at + 1 + this.#random.below(bytes.length);
      yield Uint8Array.from(bytes.subarray(at, end));
      at = end;
    }
  }
}

function error(code: string, message: string): SkepError {
  return new SkepError(code, message, { status: 503 });
}

/** Who gives up learns nothing more: what was asked for may be done all the same. */
async function unlessAborted<T>(signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  if (signal === undefined) return work();
  signal.throwIfAborted();
  const given = Promise.withResolvers<never>();
  const abort = () => given.reject(signal.reason as Error);
  signal.addEventListener("abort", abort, { once: true });
  try {
    return await Promise.race([work(), given.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

async function settled<T>(work: () => Promise<T>): Promise<() => T> {
  try {
    const value = await work();
    return () => value;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

async function collect(body: Bytes): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of body) pieces.push(piece);
  return Buffer.concat(pieces);
}
