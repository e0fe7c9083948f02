import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type {
  Volume,
  VolumeAdopt,
  VolumeCheckReport,
  VolumeClone,
  VolumeCreate,
  VolumeEdit,
  VolumeRemove,
  VolumeSnapshot,
} from "@skep/api/schemas";
import { checkName, newId, toSkepError } from "@skep/base";
import type { Collected, SnapshotInfo, VerbOptions, VolumeInfo } from "@skep/volumes";
import type { Logger } from "pino";
import { fail } from "../errors.ts";
import { Marks } from "./marks.ts";
import { OpenVolumes } from "./open.ts";
import { type Attached, isVolumeId, newRecord, Records, type VolumeRecord } from "./records.ts";
import { limitsOf, settingsOf } from "./settings.ts";
import { Stores, type StoresOptions } from "./stores.ts";
import { Turns } from "./turns.ts";
import { snapshotView, unreadable, viewOf } from "./view.ts";

/** How long a start waits for volumes that machines have; those that are later are served once they open. */
const startLimitMs = 10_000;

export interface VolumesOptions extends Omit<StoresOptions, "log" | "directory" | "cache" | "path"> {
  home: string;
  runtime: string;
  log: Logger;
}

export interface CloneRequest extends VolumeClone {
  forExport?: string;
  /** Its id; chosen where it is not given. */
  id?: string;
  /** Its snapshot goes with the last clone that is asked for so. */
  takesSnapshot?: boolean;
}

/** How far long work is. */
export interface VolumeWork {
  signal: AbortSignal;
  report(progress: { done: number; total: number }): void;
}

/** The volumes of a home: which there are, what is open, and all that is done with them. */
export class Volumes implements AsyncDisposable {
  readonly #records: Records;
  readonly #stores: Stores;
  readonly #open: OpenVolumes;
  readonly #sockets: string;
  readonly #log: Logger;
  readonly #turns: Turns;
  /** Of volumes that machines have, at one instant. */
  readonly marks: Marks;

  private constructor(records: Records, stores: Stores, open: OpenVolumes, sockets: string, log: Logger) {
    this.#records = records;
    this.#sockets = sockets;
    this.#stores = stores;
    this.#open = open;
    this.#log = log;
    this.#turns = new Turns(records);
    this.marks = new Marks({ records, open, log });
  }

  /** What was served is served again when it returns, or has failed to be; each by itself. */
  static async open(options: VolumesOptions): Promise<Volumes> {
    const { home, runtime, log, own, owner, seals, keys } = options;
    const directory = join(home, "volumes");
    const sockets = join(runtime, "nbd");
    const records = await Records.open(directory);
    const stores = await Stores.open({
      path: join(home, "stores.json"),
      directory,
      cache: join(home, "cache", "volumes"),
      own,
      owner,
      seals,
      keys,
      log: (message) => log.warn(message),
    });
    await rm(sockets, { recursive: true, force: true }); // of one that was killed
    await mkdir(sockets, { mode: 0o711 }); // QEMUs of other users pass; each socket has its own mode
    const open = new OpenVolumes({ sockets, volumesOf: ({ store }) => stores.volumes(store), log });
    const volumes = new Volumes(records, stores, open, sockets, log);
    const served = records.all().flatMap((record) => {
      return record.attached === null ? [] : [open.keepServing(record, record.attached)];
    });
    await Promise.race([Promise.all(served), pause(startLimitMs)]);
    return volumes;
  }

  async list(): Promise<Volume[]> {
    const views = await Promise.all(this.#records.all().map((record) => this.#view(record)));
    for (const [id, why] of this.#records.damaged) {
      const record = newRecord(id, { store: { id: null, bucket: "unknown" }, sizeBytes: 0 });
      views.push(await unreadable(record, why, this.#records.directoryOf(id)));
    }
    return views;
  }

  get(volume: string): Promise<Volume> {
    return this.#view(this.#records.find(volume));
  }

  #view(record: VolumeRecord): Promise<Volume> {
    return viewOf(record, {
      directory: this.#records.directoryOf(record.id),
      store: this.#stores.describe(record.store),
      volumes: () => this.#stores.volumes(record.store),
      open: this.#open,
    });
  }

  async create(request: VolumeCreate & { filling?: string }): Promise<Volume> {
    const { name, sizeBytes, encrypted, filling = null, place } = request;
    return this.#turns.named(name, async () => {
      const store = await this.#stores.choose(place);
      const volumes = await this.#stores.volumes(store);
      return this.#made({ name, store, sizeBytes, filling }, (id) =>
        volumes.create({
          id,
          sizeBytes,
          ...settingsOf(request),
          ...(encrypted === undefined ? {} : { encrypted }),
        }),
      );
    });
  }

  /** The record is there before the volume: what a crash leaves of it can be removed by its name. */
  async #made(
    given: Partial<VolumeRecord> & Pick<VolumeRecord, "store" | "sizeBytes"> & { name?: string | undefined },
    make: (id: string) => Promise<VolumeInfo>,
    id = newId("vol"),
  ): Promise<Volume> {
    if (this.#records.get(id) !== undefined) throw fail("VOLUME_EXISTS", { id });
    await this.#records.save(newRecord(id, given));
    try {
      const info = await make(id);
      return await this.#view(await this.#records.change(id, { sizeBytes: info.sizeBytes }));
    } catch (error) {
      const volumes = await this.#stores.volumes(given.store);
      await volumes.remove(id, { force: true }).catch(() => undefined);
      await this.#records.remove(id);
      throw error;
    }
  }

  /** Takes up a volume that a store has and this host does not know. */
  async adopt(request: VolumeAdopt): Promise<Volume> {
    const { id, name, place, takeOver = false } = request;
    if (!isVolumeId(id)) throw fail("VOLUME_NOT_FOUND", { id: id.slice(0, 80) });
    return this.#turns.named(name, () =>
      this.#turns.run(id, async () => {
        if (this.#records.get(id) !== undefined) throw fail("VOLUME_EXISTS", { id });
        const store = await this.#stores.choose(place);
        const info = await (await this.#stores.volumes(store)).info(id);
        const record = { ...newRecord(id, { name, store, sizeBytes: info.sizeBytes }), createdAt: iso(info) };
        await this.#records.save(record);
        if (takeOver) await this.#open.use(record, async () => undefined, { takeOver });
        return this.#view(record);
      }),
    );
  }

  async edit(volume: string, change: VolumeEdit, options: VerbOptions = {}): Promise<Volume> {
    const { name } = change;
    const settings = settingsOf(change);
    const work = async (record: VolumeRecord) => {
      if (Object.keys(settings).length > 0) {
        await this.#open.use(record, async (open) => {
          const limits = limitsOf(change, open.info().limits);
          const given = { ...settings, ...(settings.limits === undefined ? {} : { limits }) };
          await open.change(given, options);
        });
      }
      return this.#view(name === undefined ? record : await this.#records.change(record.id, { name }));
    };
    return this.#turns.named(name, () => this.#turns.turn(volume, work, options));
  }

  resize(volume: string, sizeBytes: number, options: VerbOptions = {}): Promise<Volume> {
    const work = async (record: VolumeRecord) => {
      await this.#open.use(record, async (open) => {
        await open.resize(sizeBytes, options);
        await this.#open.reconnect(record.id);
      });
      return this.#view(await this.#records.change(record.id, { sizeBytes }));
    };
    return this.#turns.turn(volume, work, options);
  }

  takeOver(volume: string): Promise<void> {
    return this.#turns.turn(volume, (record) =>
      this.#open.use(record, async () => undefined, { takeOver: true }),
    );
  }

  /** Serves it for a machine, now and after restarts. */
  serve(volume: string, attached: Attached): Promise<{ socket: string; export: string; sizeBytes: number }> {
    return this.#turns.turn(volume, async (record) => {
      const { id } = record;
      const before = record.attached;
      if (before !== null && before.machine !== attached.machine) {
        throw fail("VOLUME_ATTACHED", { id, name: before.machine });
      }
      if (before !== null && JSON.stringify(before) !== JSON.stringify(attached)) {
        await this.#open.stopServing(id);
      }
      await this.#records.change(id, { attached });
      if (this.#open.serving(id)?.problem != null) await this.#open.stopServing(id); // tried anew, and told
      try {
        await this.#open.serve(record, attached);
      } catch (error) {
        await this.#records.change(id, { attached: before });
        if (before !== null) void this.#open.keepServing(record, before);
        throw error;
      }
      const { sizeBytes } = (this.#open.get(id) as { sizeBytes: number }) ?? record;
      return { socket: this.#open.socketOf(id), export: id, sizeBytes };
    });
  }

  /** Nothing happens where it is not that machine's. */
  async release(volume: string, machine: string): Promise<void> {
    const there = this.#records.all().find(({ id, name }) => id === volume || name === volume);
    if (there === undefined) return;
    await this.#turns.run(there.id, async () => {
      const record = this.#records.get(there.id);
      if (record === undefined || record.attached?.machine !== machine) return;
      await this.#open.stopServing(record.id);
      await this.#records.change(record.id, { attached: null });
    });
  }

  /** What is gone from the store already goes from here, too. */
  async remove(volume: string, request: VolumeRemove): Promise<void> {
    const { id } = this.#records.find(volume);
    await this.#turns.run(id, async () => {
      const record = this.#records.find(id);
      if (record.attached !== null) throw fail("VOLUME_ATTACHED", { id, name: record.attached.machine });
      if (request.force === true) await this.#open.concealAll(id);
      try {
        await (await this.#stores.volumes(record.store)).remove(id, request);
      } catch (error) {
        if (toSkepError(error).code !== "VOLUME_NOT_FOUND") throw error;
      }
      await this.#records.remove(id);
      await this.#dropLeftSnapshot(record);
    });
  }

  /** It was taken for one export, or for copies of a machine. */
  async #dropLeftSnapshot({ leftSnapshot }: VolumeRecord): Promise<void> {
    if (leftSnapshot === null || this.#records.get(leftSnapshot.volume) === undefined) return;
    await this.removeSnapshot(leftSnapshot.volume, leftSnapshot.snapshot).catch((error: unknown) => {
      if (toSkepError(error).code === "SNAPSHOT_NEEDED") return; // goes with the last of its clones
      this.#log.warn({ err: error, ...leftSnapshot }, "cannot remove the snapshot that a clone was made of");
    });
  }

  snapshot(volume: string, name: string | undefined, options: VerbOptions = {}): Promise<VolumeSnapshot> {
    if (name !== undefined) checkName(name, "snapshot");
    const given = name === undefined ? options : { name, ...options };
    const work = async (record: VolumeRecord) => {
      return snapshotView(record, await this.#open.use(record, (open) => open.snapshot(given)));
    };
    return this.#turns.turn(volume, work, options);
  }

  removeSnapshot(volume: string, snapshot: string, options: VerbOptions = {}): Promise<void> {
    const work = (record: VolumeRecord) =>
      this.#open.use(record, (open) => {
        return open.removeSnapshot(snapshotIn(record, open.info(), snapshot).id, options);
      });
    return this.#turns.turn(volume, work, options);
  }

  /** Sets it back to a snapshot of it. Who has it as a disk must not run meanwhile. */
  revert(volume: string, snapshot: string, options: VerbOptions = {}): Promise<void> {
    const work = (record: VolumeRecord) =>
      this.#open.use(record, (open) => open.revert(snapshotIn(record, open.info(), snapshot).id, options));
    return this.#turns.turn(volume, work, options);
  }

  async clone(request: CloneRequest, options: VerbOptions = {}): Promise<Volume> {
    const { name, sizeBytes, forExport, takesSnapshot = false } = request;
    return this.#turns.named(name, async () => {
      const { record, snapshot, isNew } = await this.#snapshotOf(request.source, options);
      const source = { volume: record.id, snapshot: snapshot.id };
      const volumes = await this.#stores.volumes(record.store);
      const given = {
        name,
        store: record.store,
        sizeBytes: sizeBytes ?? snapshot.sizeBytes,
        filling: forExport ?? null,
        leftSnapshot: takesSnapshot || (forExport !== undefined && isNew) ? source : null,
      };
      const make = (id: string) =>
        volumes.clone(source, {
          id,
          ...settingsOf(request),
          ...(sizeBytes === undefined ? {} : { sizeBytes }),
        });
      try {
        return await this.#made(given, make, request.id);
      } catch (error) {
        if (isNew) await this.removeSnapshot(record.id, snapshot.id).catch(() => undefined);
        throw error;
      }
    });
  }

  /** Of a volume a new one; `VOLUME@SNAPSHOT` and a snapshot's id are there. */
  async #snapshotOf(
    source: string,
    options: VerbOptions,
  ): Promise<{ record: VolumeRecord; snapshot: SnapshotInfo; isNew: boolean }> {
    const at = source.indexOf("@");
    if (at >= 0) {
      const record = this.#records.find(source.slice(0, at));
      return {
        record,
        snapshot: snapshotIn(record, await this.#info(record), source.slice(at + 1)),
        isNew: false,
      };
    }
    if (!source.startsWith("snap-")) {
      const work = async (record: VolumeRecord) => {
        const snapshot = await this.#open.use(record, (open) => open.snapshot(options));
        return { record, snapshot, isNew: true };
      };
      return this.#turns.turn(source, work, options);
    }
    for (const record of this.#records.all()) {
      const info = await this.#info(record).catch(() => undefined);
      const snapshot = info?.snapshots.find(({ id }) => id === source);
      if (snapshot !== undefined) return { record, snapshot, isNew: false };
    }
    throw fail("SNAPSHOT_NOT_FOUND", { snapshot: source.slice(0, 80) });
  }

  async #info({ id, store }: VolumeRecord): Promise<VolumeInfo> {
    return this.#open.get(id)?.info() ?? (await this.#stores.volumes(store)).info(id);
  }

  collectGarbage(volume: string, { signal, report }: VolumeWork): Promise<Collected> {
    const record = this.#records.find(volume);
    return this.#open.use(record, (open) =>
      open.collectGarbage({ signal, onProgress: (done, total) => report({ done, total }) }),
    );
  }

  async check(volume: string, { signal, report }: VolumeWork): Promise<VolumeCheckReport> {
    const record = this.#records.find(volume);
    const volumes = await this.#stores.volumes(record.store);
    const onProgress = (done: number, total: number) => report({ done, total });
    return { volume: record.id, ...(await volumes.check(record.id, { signal, onProgress })) };
  }

  /** A socket for one piece of work of skepd, for as long as the signal is not aborted. */
  expose(volume: string, options: { readOnly: boolean; signal: AbortSignal }) {
    return this.#open.expose(this.#records.find(volume), options);
  }

  conceal(socket: string, how: { drain: boolean }): void {
    this.#open.conceal(socket, how);
  }

  /** It is whole now. */
  async filled(volume: string): Promise<Volume> {
    return this.#view(await this.#records.change(this.#records.find(volume).id, { filling: null }));
  }

  /** What an earlier skepd has left half made. */
  async discardUnfinished(present: string): Promise<void> {
    for (const { id, filling } of this.#records.all()) {
      if (filling !== null && filling !== present) await this.remove(id, { snapshots: true, force: true });
    }
  }

  /** Whether anything is served: then storaged stays. */
  get isServing(): boolean {
    return this.#records.all().some(({ attached }) => attached !== null);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open[Symbol.asyncDispose]();
    await this.marks[Symbol.asyncDispose]();
    await rm(this.#sockets, { recursive: true, force: true });
    await this.#stores[Symbol.asyncDispose]();
  }
}

const iso = ({ createdAt }: VolumeInfo) => new Date(createdAt).toISOString();

function snapshotIn(record: VolumeRecord, info: VolumeInfo, wanted: string): SnapshotInfo {
  const found =
    info.snapshots.find(({ id }) => id === wanted) ?? info.snapshots.find(({ name }) => name === wanted);
  if (found === undefined) {
    throw fail("SNAPSHOT_NOT_FOUND", { snapshot: `${record.name ?? record.id}@${wanted.slice(0, 80)}` });
  }
  return found;
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
