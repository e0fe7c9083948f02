import type { CreateVolume, OpenVolume, VolumeStore } from "../types.ts";
import { joined } from "./data.ts";
import type { RunSettings } from "./settings.ts";
import { noFaults } from "./simulated-store.ts";
import { type End, type Host, World } from "./world.ts";

export const blockBytes = 4096;

const calm: RunSettings = {
  sizeBytes: 256 * blockBytes,
  objBlockBytes: 64 * 1024,
  durability: "local",
  compression: "none",
  encrypted: false,
  segmentBytes: 64 * 1024,
  walLimitBytes: 512 * 1024,
  drainBytes: 128 * 1024,
  inlineBytes: 64 * 1024,
  earlySyncBytes: 1024 * 1024,
  cacheBytes: 0,
  faults: noFaults,
  diskFull: 0,
  syncFailure: 0,
  absence: 0,
  slowness: 2,
};

/** A world in which nothing goes wrong by itself, for one hazard at a time. */
export class Scene {
  readonly world: World;
  readonly host: Host;
  store: VolumeStore;

  constructor(settings: Partial<RunSettings> = {}, seed = 1) {
    this.world = new World(seed, { ...calm, ...settings });
    this.host = this.world.host("one");
    this.store = this.world.start(this.host);
  }

  /** Plays a scene to its end. */
  static play(act: (scene: Scene) => Promise<void>, settings: Partial<RunSettings> = {}): Promise<void> {
    const scene = new Scene(settings);
    return scene.world.whole(act(scene));
  }

  get server() {
    return this.world.server;
  }

  async create(request: Partial<CreateVolume> = {}): Promise<string> {
    const { sizeBytes, objBlockBytes, durability, compression, encrypted } = this.world.settings;
    const id = this.world.volumeId();
    const settings = { sizeBytes, objBlockBytes, durability, compression, encrypted };
    await this.store.create({ id, ...settings, ...request });
    return id;
  }

  async open(id: string, options: { takeOver?: boolean } = {}): Promise<Device> {
    return new Device(await this.store.open(id, options));
  }

  async created(request: Partial<CreateVolume> = {}): Promise<Device> {
    return this.open(await this.create(request));
  }

  /** The host ends in some way and starts again. */
  restart(end: End): void {
    this.world.restart(this.host, end);
    this.store = this.world.start(this.host);
  }

  /** Another host, with what it sees of the volumes. */
  other(name = "two"): { host: Host; store: VolumeStore } {
    const host = this.world.host(name);
    return { host, store: this.world.start(host) };
  }

  sleep(milliseconds: number): Promise<void> {
    return this.world.clock.of(this.host.schedule).sleep(milliseconds);
  }

  /** Of all WAL segments on this host's disk. */
  walBytes(): number {
    const { files } = this.host;
    return files
      .paths()
      .filter((path) => path.endsWith(".wal"))
      .reduce((sum, path) => sum + files.size(path), 0);
  }
}

/** A volume in blocks, each filled with a letter. */
export class Device {
  readonly volume: OpenVolume;

  constructor(volume: OpenVolume) {
    this.volume = volume;
  }

  get id(): string {
    return this.volume.id;
  }

  async write(block: number, letters: string, fua = false): Promise<void> {
    await this.writeAt(
      block * blockBytes,
      Buffer.concat([...letters].map((one) => Buffer.alloc(blockBytes, one))),
      fua,
    );
  }

  async writeAt(offset: number, bytes: Buffer, fua = false): Promise<void> {
    await this.volume.write(offset, bytes, { fua });
  }

  /** A letter a block; `.` where it is zeroes, `?` where it is not all the same. */
  async read(block: number, count: number): Promise<string> {
    const bytes = await this.readAt(block * blockBytes, count * blockBytes);
    let letters = "";
    for (let at = 0; at < bytes.length; at += blockBytes)
      letters += letterOf(bytes.subarray(at, at + blockBytes));
    return letters;
  }

  async readAt(offset: number, length: number): Promise<Buffer> {
    return joined(await this.volume.read(offset, length, { signal: new AbortController().signal }));
  }

  async flush(): Promise<void> {
    await this.volume.flush();
  }

  drain(): Promise<void> {
    return this.volume.drain();
  }

  close(options: { drain?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    return this.volume.close(options);
  }
}

function letterOf(block: Buffer): string {
  const [first = 0] = block;
  if (!block.every((byte) => byte === first)) return "?";
  return first === 0 ? "." : String.fromCharCode(first);
}
