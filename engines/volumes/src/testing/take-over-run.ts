import assert from "node:assert/strict";
import type { OpenVolume } from "../types.ts";
import type { KnownVolume } from "./known.ts";
import { VolumeModel } from "./model.ts";
import { Session } from "./session.ts";
import type { RunSettings } from "./settings.ts";
import { readAll, verifyInstant, verifyVolume } from "./verify.ts";
import { type Host, World } from "./world.ts";

/** One seed: a host has a volume open, and another one takes it over while the first still runs. */
export class TakeOverRun {
  readonly world: World;
  readonly #first: Host;
  readonly #second: Host;
  /** What the second host has in the end: the volume, and clones that either has made. */
  readonly #volumes: KnownVolume[] = [];

  constructor(seed: number, settings: Partial<RunSettings> = {}) {
    this.world = new World(seed, settings);
    this.#first = this.world.host("first");
    this.#second = this.world.host("second");
  }

  async run(): Promise<void> {
    const { world } = this;
    const old = await world.whole(this.#create());
    world.setWeather(true, [this.#first, this.#second]);
    const endStorm = world.storm(this.#first);
    const seen = await world.whole(this.#contend(old));
    endStorm();
    world.setWeather(false, [this.#first, this.#second]);
    // What the first was told is in the store, before and after it lost the volume, was there to be seen.
    const why = old.model.refute(seen, 0, world.time.next(), "disk");
    assert.equal(why, undefined, `the second host sees of ${old.id}: ${why}`);
    verifyInstant(old, seen);
    await world.whole(this.#verify());
  }

  async #create(): Promise<KnownVolume> {
    const { settings, time } = this.world;
    const { sizeBytes, durability, compression, encrypted, objBlockBytes } = settings;
    const id = this.world.volumeId();
    const store = this.world.start(this.#first);
    await store.create({ id, sizeBytes, durability, compression, encrypted, objBlockBytes });
    return known(id, new VolumeModel(time, sizeBytes));
  }

  async #contend(old: KnownVolume): Promise<Buffer> {
    const { world } = this;
    const taken = Promise.withResolvers<void>();
    const first = this.#clients(this.#first, old, taken.promise);
    for (let turns = world.random.below(1500); turns > 0; turns -= 1) await world.shared.turn();
    const { device, store } = await this.#takeOver(old.id);
    const seen = await readAll(world, device);
    const model = new VolumeModel(world.time, seen.length);
    model.settle(seen, "disk");
    const own = { ...known(old.id, model), snapshots: old.snapshots };
    this.#volumes.unshift(own);
    const session = new Session(world, this.#second, store, device, own, this.#volumes);
    const clients = [session.client(40), session.client(40)];
    taken.resolve();
    await Promise.all([first, ...clients]);
    const begun = world.time.next();
    await device.close();
    model.secure(begun, "disk");
    return seen;
  }

  async #takeOver(id: string): Promise<{ device: OpenVolume; store: ReturnType<World["start"]> }> {
    const store = this.world.start(this.#second);
    const device = await this.world.persistently(() => store.open(id, { takeOver: true }));
    return { device, store };
  }

  /** The first host's: they go on for a while after the volume was taken over. */
  async #clients(host: Host, volume: KnownVolume, taken: Promise<void>): Promise<void> {
    const store = this.world.start(host);
    let device: OpenVolume;
    try {
      device = await this.world.persistently(() => store.open(volume.id));
    } catch (error) {
      // The second one was quicker.
      assert.ok(error instanceof Error && "code" in error);
      assert.ok(["VOLUME_IN_USE", "VOLUME_FENCED"].includes(String(error.code)), `open fails: ${error}`);
      return;
    }
    const refusals = ["VOLUME_FENCED", "VOLUME_CLOSED"];
    const session = new Session(this.world, host, store, device, volume, this.#volumes, refusals);
    await Promise.all([session.client(60), session.client(60)]);
    await taken;
    await Promise.all([session.client(20), session.client(20)]);
    // It learns of it at the latest when it wants to put something into the store.
    await session.write();
    const outcome = await session.attempt(() => device.drain());
    assert.equal(outcome, "refused", "a drain of the host that has lost the volume was acknowledged");
    assert.equal(device.statistics().fenced, true);
    assert.equal(await session.attempt(() => device.flush()), "refused", "a flush after it has learned");
    await session.attempt(() => device.close());
  }

  /** Both hosts again, one after the other: the first one's leftovers are never replayed. */
  async #verify(): Promise<void> {
    const volumes = this.#volumes;
    for (const host of [this.#second, this.#first]) {
      this.world.restart(host, "power");
      const scene = {
        world: this.world,
        host,
        store: this.world.start(host),
        volumes,
        loss: "power" as const,
        leaves: true,
      };
      for (const volume of [...volumes]) await verifyVolume(scene, volume);
    }
  }
}

function known(id: string, model: VolumeModel): KnownVolume {
  return { id, model, snapshots: [], source: undefined, sizes: new Set(), isCertain: true };
}
