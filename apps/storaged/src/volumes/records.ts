import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  ensureDirectory,
  isErrno,
  readVersionedJson,
  syncDirectory,
  toSkepError,
  writeVersionedJson,
} from "@skep/base";
import { fail } from "../errors.ts";

/** Who has a volume, and what its export has to be like. */
export interface Attached {
  machine: string;
  everyWriteFua: boolean;
  /** Whose the socket is; null: ours. */
  owner: { uid: number; gid: number } | null;
}

/** `volumes/<id>/volume.json`: what this host knows of a volume. All else is in the store. */
export interface VolumeRecord {
  version: 1;
  id: string;
  name: string | null;
  /** `id` of stores.json; null: this host's own store. */
  store: { id: string | null; bucket: string };
  /** As they were last known, for when the store does not answer. */
  sizeBytes: number;
  createdAt: string;
  /** It is served, and shall be again after a restart. */
  attached: Attached | null;
  /** Until it is whole: a word of the skepd that fills it. */
  filling: string | null;
  /** Goes with this volume, which was made for one export: a snapshot of its source. */
  leftSnapshot: { volume: string; snapshot: string } | null;
}

const recordVersion = 1;
/** Of a directory that is being removed. */
const goingPrefix = ".rm-";
export const isVolumeId = (text: string) => /^vol-[0-9a-f]{17}$/.test(text);

/** The records of a home, in memory and on disk. */
export class Records {
  readonly #directory: string;
  readonly #records = new Map<string, VolumeRecord>();
  /** Those that cannot be read, and why. */
  readonly damaged = new Map<string, string>();

  private constructor(directory: string) {
    this.#directory = directory;
  }

  static async open(directory: string): Promise<Records> {
    const records = new Records(directory);
    await ensureDirectory(directory);
    for (const { name } of await readdir(directory, { withFileTypes: true })) {
      if (isVolumeId(name)) await records.#load(name);
      else if (name.startsWith(goingPrefix)) await rm(join(directory, name), { recursive: true });
    }
    return records;
  }

  async #load(id: string): Promise<void> {
    const path = this.#path(id);
    try {
      const record = await readVersionedJson<VolumeRecord>(path, recordVersion);
      if (record.id !== id || typeof record.store !== "object" || record.store === null) {
        throw fail("VOLUME_RECORD", { path });
      }
      this.#records.set(id, record);
    } catch (error) {
      // A log without a record is left alone: somebody may want to take its volume up again.
      if (!isErrno(error, "ENOENT")) this.damaged.set(id, toSkepError(error).message);
    }
  }

  directoryOf(id: string): string {
    return join(this.#directory, id);
  }

  #path(id: string): string {
    return join(this.directoryOf(id), "volume.json");
  }

  all(): VolumeRecord[] {
    return [...this.#records.values()].sort((a, b) => a.createdAt.localeCompare(b.createdAt));
  }

  get(id: string): VolumeRecord | undefined {
    return this.#records.get(id);
  }

  /** By id or name; VOLUME_NOT_FOUND. */
  find(nameOrId: string): VolumeRecord {
    const found =
      this.#records.get(nameOrId) ?? [...this.#records.values()].find(({ name }) => name === nameOrId);
    if (found !== undefined) return found;
    const why = this.damaged.get(nameOrId);
    if (why !== undefined) throw fail("VOLUME_RECORD_DAMAGED", { id: nameOrId, why });
    throw fail("VOLUME_NOT_FOUND", { id: nameOrId.slice(0, 80) });
  }

  async save(record: VolumeRecord): Promise<void> {
    await mkdir(this.directoryOf(record.id), { recursive: true, mode: 0o700 });
    // A new one's name is there before what is written for it.
    if (!this.#records.has(record.id)) await syncDirectory(this.#directory);
    this.#records.set(record.id, record);
    await writeVersionedJson(this.#path(record.id), record);
  }

  async change(id: string, change: Partial<VolumeRecord>): Promise<VolumeRecord> {
    const record = { ...this.find(id), ...change };
    await this.save(record);
    return record;
  }

  /** With all that lies beside it. */
  async remove(id: string): Promise<void> {
    this.#records.delete(id);
    const going = join(this.#directory, `${goingPrefix}${id}`);
    await rename(this.directoryOf(id), going);
    await syncDirectory(this.#directory);
    await rm(going, { recursive: true }); // or at the next start
  }
}

export function newRecord(
  id: string,
  given: Partial<VolumeRecord> & Pick<VolumeRecord, "store" | "sizeBytes"> & { name?: string | undefined },
): VolumeRecord {
  const { name, store, sizeBytes, filling = null, leftSnapshot = null } = given;
  const createdAt = new Date().toISOString();
  return {
    version: 1,
    id,
    name: name ?? null,
    store,
    sizeBytes,
    createdAt,
    attached: null,
    filling,
    leftSnapshot,
  };
}
