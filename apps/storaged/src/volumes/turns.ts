import { checkName, KeyedMutex } from "@skep/base";
import type { VerbOptions } from "@skep/volumes";
import { fail } from "../errors.ts";
import type { Records, VolumeRecord } from "./records.ts";

/** Keeps verbs of one volume, and those that give the same name, out of each other's way. */
export class Turns {
  readonly #records: Records;
  /** By id: verbs that change what a volume is to this host. */
  readonly #turns = new KeyedMutex();
  /** Names that are about to be given. */
  readonly #reserved = new Set<string>();

  constructor(records: Records) {
    this.#records = records;
  }

  /** Whatever state the volume is in, or where there is none yet. */
  run<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.run(id, work);
  }

  /** Does something to a volume while no other verb does; it must not be half made. */
  turn<T>(
    volume: string,
    work: (record: VolumeRecord) => Promise<T>,
    { signal }: VerbOptions = {},
  ): Promise<T> {
    const { id } = this.#records.find(volume);
    return this.run(id, async () => {
      signal?.throwIfAborted();
      const record = this.#records.find(id);
      if (record.filling !== null) throw fail("VOLUME_FILLING", { id });
      return work(record);
    });
  }

  /** A name is taken from the moment at which somebody asks for it. */
  async named<T>(name: string | null | undefined, work: () => Promise<T>): Promise<T> {
    if (name === null || name === undefined) return work();
    checkName(name, "volume");
    if (/^(?:vol|snap)-[0-9a-f]{17}$/.test(name)) throw fail("VOLUME_NAME", { name });
    const isTaken = this.#records.all().some((record) => record.name === name);
    if (isTaken || this.#reserved.has(name)) throw fail("VOLUME_EXISTS", { id: name });
    this.#reserved.add(name);
    try {
      return await work();
    } finally {
      this.#reserved.delete(name);
    }
  }
}
