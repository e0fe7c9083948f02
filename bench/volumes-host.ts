/**
 * The process that is measured: store, volumes and NBD in one, as in storaged. Its parent calls it over Node's
 * channel (`Host` in volumes-sides.ts).
 */
import { randomBytes } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { NbdServer } from "@skep/nbd";
import { EmbeddedStore, type ObjectStore } from "@skep/objects";
import { ForeignStore } from "@skep/objects/foreign";
import {
  type CreateVolume,
  type OpenVolume,
  openVolumes,
  type VolumeStatistics,
  type VolumeStore,
} from "@skep/volumes";
import type { Endpoint } from "./objects-wire.ts";

/** In which store the volumes are: the embedded one, or an S3. */
export type Place = { directory: string } | { endpoint: Endpoint };

/** Blocks of 4 KiB, within the first so many bytes. */
export interface Writing {
  order: "random" | "ascending";
  totalBytes: number;
  rangeBytes: number;
}

export interface Opened {
  ms: number;
  /** Resident, after a collection of garbage. */
  grownBytes: number;
}

const blockBytes = 4096;
const server = new NbdServer({ onError: (error, where) => console.error(where, error) });
const opened = new Map<string, OpenVolume>();
const exits: (() => Promise<unknown>)[] = [];
let volumes: VolumeStore | undefined;
let isStalled = false;

export const calls = {
  /** `local`: where WALs and caches are. */
  async openStore(place: Place, local: string): Promise<void> {
    const store = "directory" in place ? await embedded(place.directory) : foreign(place.endpoint);
    const cacheDirectory = join(local, "cache");
    await mkdir(cacheDirectory, { recursive: true });
    volumes = openVolumes({ store: stallable(store), directory: local, host: "bench", cacheDirectory });
  },

  create: async (request: CreateVolume): Promise<string> => (await volumesHere().create(request)).id,

  async open(id: string): Promise<Opened> {
    const before = await calls.residentBytes();
    const start = performance.now();
    opened.set(id, await volumesHere().open(id));
    const ms = performance.now() - start;
    return { ms, grownBytes: (await calls.residentBytes()) - before };
  },

  async serve(id: string, socket: string): Promise<void> {
    server.add({ name: id, device: volume(id) });
    await server.listen({ path: socket, only: id });
  },

  drain: (id: string): Promise<void> => volume(id).drain(),

  statistics: async (id: string): Promise<VolumeStatistics> => volume(id).statistics(),

  /** Without NBD between; settles when all was answered. */
  write: (id: string, writing: Writing): Promise<void> => write(volume(id), writing),

  /** From now on the store takes nothing, and never says so. */
  async stall(): Promise<void> {
    isStalled = true;
  },

  async close(id: string): Promise<void> {
    await server.remove(id);
    await volume(id).close();
    opened.delete(id);
  },

  async residentBytes(): Promise<number> {
    globalThis.gc?.();
    const status = await readFile("/proc/self/status", "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  },

  async exit(): Promise<void> {
    for (const [id, one] of opened) {
      await server.remove(id);
      await one.close();
    }
    for (const exit of exits.reverse()) await exit();
    process.disconnect();
    setImmediate(() => process.exit());
  },
};

export type Calls = typeof calls;

function volume(id: string): OpenVolume {
  const one = opened.get(id);
  if (one === undefined) throw new Error(`${id} is not open`);
  return one;
}

function volumesHere(): VolumeStore {
  if (volumes === undefined) throw new Error("no store is open");
  return volumes;
}

async function embedded(directory: string): Promise<ObjectStore> {
  const store = await EmbeddedStore.open({ directory, log: (message) => console.error(message) });
  exits.push(() => store.close());
  const name = "volumes";
  await store.bucket(name).catch(() => store.createBucket(name, { owner: "bench" }));
  return store.objects(name);
}

function foreign({ host, port, bucket, credentials, region }: Endpoint): ObjectStore {
  return new ForeignStore({ endpoint: `http://${host}:${port}`, bucket, credentials, region });
}

function stallable(store: ObjectStore): ObjectStore {
  return new Proxy(store, {
    get(target, name) {
      if (isStalled && name === "put") return () => new Promise(() => {});
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

async function write(device: OpenVolume, { order, totalBytes, rangeBytes }: Writing): Promise<void> {
  const noise = randomBytes(16 * 1024 * 1024); // blocks begin anywhere in it, so that none is like another
  const blocks = Math.floor(rangeBytes / blockBytes);
  const count = Math.floor(totalBytes / blockBytes);
  for (let done = 0; done < count; ) {
    const waiting: Promise<void>[] = [];
    for (let batch = 0; batch < 32 && done < count; batch += 1, done += 1) {
      const block = order === "random" ? Math.floor(Math.random() * blocks) : done % blocks;
      const from = Math.floor(Math.random() * (noise.length - blockBytes));
      const answer = device.write(block * blockBytes, noise.subarray(from, from + blockBytes), {
        fua: false,
      });
      if (answer !== undefined) waiting.push(answer);
    }
    await Promise.all(waiting);
  }
}

interface Call {
  id: number;
  name: keyof Calls;
  args: never[];
}

process.on("message", ({ id, name, args }: Call) => {
  (calls[name] as (...args: never[]) => Promise<unknown>)(...args).then(
    (value) => process.connected && process.send?.({ id, value }),
    (error: unknown) => process.connected && process.send?.({ id, error: String(error) }),
  );
});
