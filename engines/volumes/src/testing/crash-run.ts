import type { VolumeStore } from "../types.ts";
import type { KnownVolume } from "./known.ts";
import { VolumeModel } from "./model.ts";
import { Session } from "./session.ts";
import type { RunSettings } from "./settings.ts";
import { adoptClone, readAll, verifyVolume } from "./verify.ts";
import { type End, type Host, World } from "./world.ts";

const ends: readonly End[] = ["process", "power", "disk"];

/** One seed, one schedule: a host whose volumes are used, that crashes, recovers and is looked at. */
export class CrashRun {
  readonly world: World;
  readonly #host: Host;
  readonly #volumes: KnownVolume[] = [];

  constructor(seed: number, settings: Partial<RunSettings> = {}) {
    this.world = new World(seed, settings);
    this.#host = this.world.host("one");
  }

  async run(): Promise<void> {
    const { random } = this.world;
    await this.world.whole(this.#create());
    for (let rounds = 1 + random.below(2); rounds > 0; rounds -= 1) {
      this.world.restart(this.#host, "process", 30 + random.below(1500));
      await this.#live();
      const lost = await this.#recoverAtLast();
      await this.world.whole(this.#verify(lost));
    }
    await this.world.whole(this.#removeAll());
  }

  async #create(): Promise<void> {
    const { settings, time } = this.world;
    const { sizeBytes, durability, compression, encrypted, objBlockBytes } = settings;
    const id = this.world.volumeId();
    await this.world
      .start(this.#host)
      .create({ id, sizeBytes, durability, compression, encrypted, objBlockBytes });
    const model = new VolumeModel(time, sizeBytes);
    this.#volumes.push({ id, model, snapshots: [], source: undefined, sizes: new Set(), isCertain: true });
  }

  async #live(): Promise<void> {
    const { random } = this.world;
    this.world.setWeather(true, [this.#host]);
    const store = this.world.start(this.#host);
    const sessions = async () => {
      for (let count = random.chance(0.3) ? 2 : 1; count > 0; count -= 1) {
        const chosen = this.#volumes.filter((one, at) => one.isCertain && (at === 0 || random.chance(0.5)));
        await Promise.all(chosen.map((volume) => this.#session(store, volume, count === 1)));
      }
    };
    const endStorm = this.world.storm(this.#host);
    await this.world.until(this.#host, sessions());
    endStorm();
    this.world.setWeather(false, [this.#host]);
  }

  async #session(store: VolumeStore, volume: KnownVolume, isLast: boolean): Promise<void> {
    const { random, time } = this.world;
    const device = await this.world.persistently(() => store.open(volume.id));
    if (volume.source !== undefined && volume.model.sizeBytes === 0) {
      adoptClone(this.world, volume, await this.world.persistently(() => readAll(this.world, device)));
    }
    const session = new Session(this.world, this.#host, store, device, volume, this.#volumes);
    const clients = Array.from({ length: 1 + random.below(5) }, () => session.client(5 + random.below(40)));
    await Promise.all(clients);
    if (isLast && random.chance(0.5)) return;
    const drain = random.chance(0.7);
    const begun = time.next();
    const outcome = await session.attempt(() => device.close({ drain }));
    if (typeof outcome !== "string" && drain) volume.model.secure(begun, "disk");
  }

  /** It ends in some way, and again while it starts; gives what was lost at worst. */
  async #recoverAtLast(): Promise<{ loss: End; isMixed: boolean }> {
    const { random } = this.world;
    let worst: End = "process";
    let isMixed = false;
    for (;;) {
      const end = random.pick(["process", "process", "process", "power", "power", "power", "disk"] as const);
      if (end === "disk" && worst === "power") isMixed = true;
      if (ends.indexOf(end) > ends.indexOf(worst)) worst = end;
      const isLast = random.chance(0.6);
      const steps = isLast ? Number.POSITIVE_INFINITY : 1 + random.below(120);
      this.world.restart(this.#host, end, steps);
      if (isLast) return { loss: worst, isMixed };
      const takeOver = worst === "disk";
      await this.world.until(this.#host, this.#openAndClose(takeOver));
    }
  }

  async #openAndClose(takeOver: boolean): Promise<void> {
    const store = this.world.start(this.#host);
    for (const { id, isCertain } of this.#volumes) {
      if (!isCertain) continue;
      const device = await store.open(id, { takeOver });
      await device.close({ drain: this.world.random.chance(0.5) });
    }
  }

  async #verify(lost: { loss: End; isMixed: boolean }): Promise<void> {
    const store = this.world.start(this.#host);
    await this.world.server.settle();
    const scene = { world: this.world, host: this.#host, store, volumes: this.#volumes, ...lost };
    for (const volume of [...this.#volumes]) await verifyVolume(scene, volume);
  }

  /** Clones first; then nothing is left in the store. */
  async #removeAll(): Promise<void> {
    const { server } = this.world;
    this.world.restart(this.#host, "process");
    const store = this.world.start(this.#host);
    await server.settle();
    for (const { id } of [...this.#volumes].reverse()) await store.remove(id, { snapshots: true });
    const left = await server.keys();
    if (left.length > 0) throw new Error(`left in the store: ${left.join(", ")}`);
  }
}
