import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import type { ReadResult } from "@skep/nbd";
import type { ObjectStore } from "@skep/objects";
import { blockBytes, type OpenVolume, type VolumeStore } from "../types.ts";
import { openVolumes, type VolumesOptions } from "../volumes.ts";

/** A store to be tried. */
export interface Candidate extends AsyncDisposable {
  store: ObjectStore;
  /** Not this host's: what is read of it is cached on the hosts' disks. */
  isForeign?: boolean;
}

const keys = {
  wrap: (key: Uint8Array, name: string) => `${name} ${Buffer.from(key).toString("hex")}`,
  unwrap: (wrapped: string, name: string) =>
    wrapped.startsWith(`${name} `) ? Buffer.from(wrapped.slice(name.length + 1), "hex") : undefined,
};

/** A candidate, and the disks of hosts that have volumes in it; all is gone at the end. */
export class Place implements AsyncDisposable {
  readonly store: ObjectStore;
  readonly #directory: string;
  readonly #candidate: Candidate;

  private constructor(directory: string, candidate: Candidate) {
    this.#directory = directory;
    this.#candidate = candidate;
    this.store = candidate.store;
  }

  static async open(make: () => Promise<Candidate>): Promise<Place> {
    const candidate = await make();
    return new Place(await mkdtemp("/tmp/skep-vol-"), candidate);
  }

  /** The volumes as a process on a host has them. */
  start(host = "here", options: Partial<VolumesOptions> = {}): VolumeStore {
    const directory = join(this.#directory, host, "volumes");
    const cache = this.#candidate.isForeign
      ? { cacheDirectory: join(this.#directory, host, "cache"), memoryBytes: 2 ** 20 }
      : {};
    return openVolumes({ store: this.store, directory, host, keys, ...cache, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#candidate[Symbol.asyncDispose]();
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** The store, but that something is waited for, or fails, before each request. */
export function interposed(
  store: ObjectStore,
  before: (verb: string, key: string) => Promise<void> | undefined,
): ObjectStore {
  return new Proxy(store, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return (...given: unknown[]) => {
        const waited = before(String(name), String(given[0]));
        return waited === undefined
          ? value.apply(target, given)
          : waited.then(() => value.apply(target, given));
      };
    },
  });
}

const signal = new AbortController().signal;

export const plain = { fua: false };

export function bytesOf(result: ReadResult): Buffer {
  const parts = result instanceof Uint8Array ? [result] : result;
  return Buffer.concat(parts.map((part) => (part instanceof Uint8Array ? part : Buffer.alloc(part.zeroes))));
}

export async function read(volume: OpenVolume, offset: number, length: number): Promise<Buffer> {
  return bytesOf(await volume.read(offset, length, { signal }));
}

export async function write(
  volume: OpenVolume,
  offset: number,
  fill: string,
  length = blockBytes,
): Promise<void> {
  await volume.write(offset, Buffer.alloc(length, fill), plain);
}

export const text = (length: number, fill: string) => Buffer.alloc(length, fill).toString();

export const code = (expected: string) => (error: unknown) => (error as { code?: string }).code === expected;
