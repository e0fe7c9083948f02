import { randomBytes } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type {
  Check,
  SnapshotCreate,
  Volume,
  VolumeAdopt,
  VolumeCheckReport,
  VolumeClone,
  VolumeCreate,
  VolumeEdit,
  VolumeExport,
  VolumeImport,
  VolumeRemove,
  VolumeSnapshot,
} from "@skep/api/schemas";
import { quietWork, SkepError, toSkepError, type Work } from "@skep/base";
import type { JobRequest, VolumeEngine, VolumeGarbage } from "@skep/control";
import type { MarkedVolume, VolumeAccess } from "@skep/machines";
import type { Logger } from "pino";
import type { Storaged } from "./storaged.ts";
import { checkTarget, exportDisk, fillVolume, inspectForImport } from "./volume-images.ts";

/** What storaged tells of long work. */
type Told<T> = { done: number; total: number } | { result: T };

const walWarnBytes = 768 * 1024 ** 2;
const tries = 3;
/** What is wrong with a volume is in storaged's memory, or not known. */
const askLimitMs = 2000;

/** Volumes as the control API and machines see them; all of it is done by storaged. */
export class VolumeService implements VolumeEngine, VolumeAccess {
  readonly #home: string;
  readonly #storaged: Storaged;
  readonly #log: Logger;
  readonly #machineOf: (id: string) => string | undefined;
  /** Marks what this skepd has not finished. */
  readonly #present = randomBytes(8).toString("hex");

  constructor(options: {
    home: string;
    storaged: Storaged;
    log: Logger;
    /** The machine that has a volume. */
    machineOf(id: string): string | undefined;
  }) {
    this.#home = options.home;
    this.#storaged = options.storaged;
    this.#log = options.log;
    this.#machineOf = options.machineOf;
  }

  async #ask<T>(method: "GET" | "POST" | "PUT" | "DELETE", path: string, body?: unknown): Promise<T> {
    await this.#storaged.start();
    return this.#storaged.call<T>({ method, path, body });
  }

  #askAgain<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
    return this.#again(() => this.#ask<T>(method, path, body));
  }

  /** For what may be done twice: storaged may die meanwhile, and comes back. */
  async #again<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await work();
      } catch (error) {
        if (attempt === tries || toSkepError(error).code !== "DAEMON_UNREACHABLE") throw error;
      }
    }
  }

  /** Asks for what may wait for the volume's store. */
  #verb<T>(
    volume: string,
    signal: AbortSignal,
    call: { method: "POST" | "PUT" | "DELETE"; path: string; body?: unknown },
  ): Promise<T> {
    return this.#patiently(volume, signal, async () => {
      await this.#storaged.start();
      return this.#storaged.call<T>({ ...call, signal });
    });
  }

  /** Who gives up is told at once why it took so long; what storaged has begun it ends by itself. */
  async #patiently<T>(volume: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw signal.aborted ? await this.#givenUp(volume, error) : error;
    }
  }

  async #givenUp(volume: string, cause: unknown): Promise<Error> {
    const signal = AbortSignal.timeout(askLimitMs);
    const asked = this.#storaged.call<Volume>({ method: "GET", path: pathOf(volume), signal });
    const { problem } = await asked.catch(() => ({ problem: null }));
    const why = problem === null ? "" : `; the store of "${volume}" does not answer (${problem})`;
    return new SkepError("CANCELLED", `cancelled${why}; what has begun is left to itself`, {
      status: 499,
      hint: `see what has become of it: skep vol show ${volume}`,
      cause,
    });
  }

  /** Of storaged's long work: passes its progress on, returns its result. */
  async #follow<T>(path: string, phase: string, { signal, report }: Work): Promise<T> {
    await this.#storaged.start();
    report({ phase });
    let result: T | undefined;
    for await (const told of this.#storaged.stream<Told<T>>({ method: "POST", path, signal })) {
      if ("result" in told) result = told.result;
      else report({ phase, ...told, unit: "steps" });
    }
    return result as T;
  }

  /** A home without volumes needs no storaged to say so. */
  async list(): Promise<Volume[]> {
    const names = await readdir(join(this.#home, "volumes")).catch(() => []);
    return names.length === 0 ? [] : this.#askAgain("GET", "/volumes");
  }

  get(volume: string): Promise<Volume> {
    return this.#askAgain("GET", pathOf(volume));
  }

  create(request: VolumeCreate): Promise<Volume> {
    return this.#ask("POST", "/volumes", request);
  }

  adopt(request: VolumeAdopt): Promise<Volume> {
    return this.#ask("POST", "/volumes/adopt", request);
  }

  edit(volume: string, change: VolumeEdit, signal: AbortSignal): Promise<Volume> {
    return this.#verb(volume, signal, { method: "PUT", path: pathOf(volume), body: change });
  }

  resize(volume: string, sizeBytes: number, { signal, report }: Work): Promise<Volume> {
    report({ phase: `growing ${volume}` });
    const path = `${pathOf(volume)}/resize`;
    return this.#verb(volume, signal, { method: "POST", path, body: { sizeBytes } });
  }

  takeOver(volume: string): Promise<void> {
    return this.#ask("POST", `${pathOf(volume)}/take-over`);
  }

  async remove(volume: string, request: VolumeRemove = {}, work: Work = quietWork()): Promise<void> {
    work.report({ phase: `removing ${volume}` });
    await this.#ask("POST", `${pathOf(volume)}/remove`, request);
  }

  snapshot(volume: string, request: SnapshotCreate, { signal, report }: Work): Promise<VolumeSnapshot> {
    report({ phase: `taking a snapshot of ${volume}` });
    const path = `${pathOf(volume)}/snapshots`;
    return this.#verb(volume, signal, { method: "POST", path, body: request });
  }

  removeSnapshot(volume: string, snapshot: string, signal: AbortSignal): Promise<void> {
    const path = `${pathOf(volume)}/snapshots/${encodeURIComponent(snapshot)}`;
    return this.#verb(volume, signal, { method: "DELETE", path });
  }

  clone(request: VolumeClone, { report }: Work): Promise<Volume> {
    report({ phase: `cloning ${request.source}` });
    return this.#ask("POST", "/volumes/clone", request);
  }

  collectGarbage(volume: string, work: Work): Promise<VolumeGarbage> {
    const collect = () => {
      return this.#follow<VolumeGarbage>(`${pathOf(volume)}/gc`, `collecting garbage of ${volume}`, work);
    };
    return this.#patiently(volume, work.signal, collect);
  }

  check(volume: string, work: Work): Promise<VolumeCheckReport> {
    return this.#follow(`${pathOf(volume)}/check`, `checking ${volume}`, work);
  }

  async import(request: VolumeImport, work: Work): Promise<Volume> {
    const { path, sizeBytes, ...rest } = request;
    const disk = await inspectForImport({ path, sizeBytes }, work);
    const create = { ...rest, sizeBytes: disk.sizeBytes, filling: this.#present };
    const volume = await this.#ask<Volume>("POST", "/volumes", create);
    try {
      await this.importImage(volume.id, { path, format: disk.format }, work);
      return await this.#ask<Volume>("POST", `${pathOf(volume.id)}/filled`);
    } catch (error) {
      await this.#discard(volume.id);
      throw error;
    }
  }

  async importImage(id: string, file: { path: string; format: "qcow2" | "raw" }, work: Work): Promise<void> {
    await this.#exposed(id, { readOnly: false }, work, (uri) => fillVolume(uri, file, work));
  }

  /** What is exported is a clone, made for it: one instant of the volume, whoever writes meanwhile. */
  async export(source: string, request: VolumeExport, work: Work): Promise<{ path: string; bytes: number }> {
    await checkTarget(request);
    const clone = await this.#ask<Volume>("POST", "/volumes/clone", { source, forExport: this.#present });
    try {
      return await this.#exposed(clone.id, { readOnly: true }, work, (uri) => exportDisk(uri, request, work));
    } finally {
      await this.#discard(clone.id);
    }
  }

  /** What stays is discarded by the next skepd. */
  async #discard(id: string): Promise<void> {
    const request = { snapshots: true, force: true };
    await this.#askAgain("POST", `${pathOf(id)}/remove`, request).catch((error: unknown) => {
      this.#log.error({ err: error, volume: id }, "cannot remove the half made volume");
    });
  }

  /** Works with a volume at an NBD address; it is closed again when this returns. */
  async #exposed<T>(
    id: string,
    options: { readOnly: boolean },
    { signal }: Work,
    work: (uri: string) => Promise<T>,
  ): Promise<T> {
    await this.#storaged.start();
    const path = `${pathOf(id)}/expose`;
    const exposure = this.#storaged.stream<{ socket: string; export: string }>({
      method: "POST",
      path,
      body: options,
    });
    const { value } = await exposure.next();
    if (value === undefined) throw new SkepError("INTERNAL", `storaged did not expose ${id}`);
    const { socket } = value;
    let drain = false; // what has failed is removed
    try {
      signal.throwIfAborted();
      const result = await work(`nbd+unix:///${value.export}?socket=${socket}`);
      drain = true;
      return result;
    } finally {
      await this.#conceal({ socket, drain }, exposure);
    }
  }

  /** Where storaged has died meanwhile, there is nothing to be done. */
  async #conceal(
    body: { socket: string; drain: boolean },
    exposure: AsyncGenerator<unknown, void, void>,
  ): Promise<void> {
    try {
      await this.#storaged.call({ method: "POST", path: "/volumes/conceal", body });
      await exposure.next(); // ends when it is closed
    } catch (error) {
      this.#log.warn({ err: error, ...body }, "cannot end an exposure");
    } finally {
      await exposure.return();
    }
  }

  async resolve(nameOrId: string) {
    const { id, name, sizeBytes } = await this.get(nameOrId);
    return { id, name, sizeBytes, attachedTo: this.#machineOf(id) ?? null };
  }

  /** Asked of a storaged that runs: a guest may stand still meanwhile. */
  async mark(mark: string, volumes: readonly MarkedVolume[], signal?: AbortSignal): Promise<void> {
    await this.#storaged.call({ method: "POST", path: `/volume-marks/${mark}`, body: { volumes }, signal });
  }

  async complete(mark: string, signal?: AbortSignal): Promise<void> {
    await this.#storaged.call({ method: "POST", path: `/volume-marks/${mark}/complete`, signal });
  }

  /** Where storaged is gone, the mark is. */
  async abandon(mark: string): Promise<void> {
    if (!(await this.#storaged.runs())) return;
    await this.#storaged.call({ method: "DELETE", path: `/volume-marks/${mark}` });
  }

  async snapshotsOf(id: string): Promise<string[]> {
    const { snapshots, state, problem } = await this.get(id);
    if (state === "unreadable") throw new SkepError("VOLUME_DAMAGED", `volume "${id}": ${problem}`);
    return snapshots.map((snapshot) => snapshot.id);
  }

  async dropSnapshot(id: string, snapshot: string, signal?: AbortSignal): Promise<void> {
    try {
      await this.#again(() => this.removeSnapshot(id, snapshot, signal ?? quietWork().signal));
    } catch (error) {
      if (!["SNAPSHOT_NOT_FOUND", "VOLUME_NOT_FOUND"].includes(toSkepError(error).code)) throw error;
    }
  }

  revert(id: string, snapshot: string, signal?: AbortSignal): Promise<void> {
    const call = { method: "POST", path: `${pathOf(id)}/revert`, body: { snapshot } } as const;
    return this.#again(() => this.#verb(id, signal ?? quietWork().signal, call));
  }

  async cloneSnapshot({ source, ...request }: Parameters<VolumeAccess["cloneSnapshot"]>[0]): Promise<void> {
    const { volume, snapshot } = source;
    await this.#ask("POST", "/volumes/clone", { ...request, source: `${volume}@${snapshot}` });
  }

  serve(
    id: string,
    request: { machine: string; owner: { uid: number; gid: number } | null; everyWriteFua: boolean },
  ): Promise<{ socket: string; export: string; sizeBytes: number }> {
    return this.#askAgain("POST", `${pathOf(id)}/serve`, request);
  }

  release(id: string, machine: string): Promise<void> {
    return this.#askAgain("POST", `${pathOf(id)}/release`, { machine });
  }

  async ready(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    await this.#storaged.start();
  }

  /** What became of a job that an earlier skepd left. */
  async recover({ kind, subject }: JobRequest): Promise<"finished" | "undone"> {
    await this.#askAgain("POST", "/volumes/discard-unfinished", { present: this.#present });
    if (kind !== "volume.remove") return "undone";
    const isThere = (await this.list()).some(({ id, name }) => id === subject || name === subject);
    return isThere ? "undone" : "finished";
  }

  async doctor(): Promise<Check[]> {
    try {
      if (!(await this.#storaged.runs())) return [];
      return (await this.list()).flatMap((volume) => checkOf(volume));
    } catch (error) {
      const { message, hint } = toSkepError(error);
      return [{ name: "volumes", status: "failed", detail: message, fix: hint ?? null }];
    }
  }
}

function checkOf({ id, name, problem, state, walBytes }: Volume): Check[] {
  const check = { name: `volume ${name ?? id}` };
  if (problem !== null) {
    const status = state === "unreadable" ? "failed" : "warning";
    return [{ ...check, status, detail: problem, fix: `skep vol show ${name ?? id}` }];
  }
  if (walBytes < walWarnBytes) return [];
  const detail = `${Math.round(walBytes / 1024 ** 2)} MiB wait for its store; at 1 GiB the guest's writes wait, too`;
  return [{ ...check, status: "warning", detail, fix: "see that the store answers and is quick enough" }];
}

const pathOf = (volume: string) => `/volumes/${encodeURIComponent(volume)}`;

/** Whether storaged has to run for machines' volumes, as their records say. */
export async function servesVolumes(home: string): Promise<boolean> {
  const directory = join(home, "volumes");
  for (const id of await readdir(directory).catch(() => [])) {
    try {
      const record = JSON.parse(await readFile(join(directory, id, "volume.json"), "utf8"));
      if (record.attached !== null) return true;
    } catch {
      // no volume's, or a damaged one, of which storaged tells
    }
  }
  return false;
}
