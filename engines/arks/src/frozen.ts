import { hash } from "node:crypto";
import { chmod, chown, mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { homeMark, isErrno, KeyedMutex, SkepError } from "@skep/base";
import { frozenDirectory, frozenRam } from "@skep/machines";
import { fail } from "./errors.ts";
import {
  freeGid,
  frozenId,
  frozenNames,
  frozenPlace,
  isOwnDirectory,
  readFrozen,
  readFrozenDevice,
  whoseFrozen,
} from "./frozen-files.ts";
import { type FrozenRecord, writeFrozenRecord } from "./frozen-record.ts";
import { KeptMemory } from "./kept.ts";
import { IdleThreads } from "./memory-threads.ts";
import type { DeviceForm } from "./types.ts";

const isRoot = process.getuid?.() === 0;

/** What the making of a frozen machine tells of it; the rest of its record is the room's own. */
export interface FrozenContent
  extends Pick<FrozenRecord, "createdAt" | "machine" | "host" | "memoryBytes" | "pauseMs" | "slicesFrozen"> {
  device: { form: DeviceForm; stream: Uint8Array };
}

/**
 * A machine as it stood at one instant, in tmpfs: its memory in a file that nobody writes any more, and its
 * devices. Machines borrow the file (`share=off`), and states are packed from it. Whoever was given one has it
 * until it is disposed of; it goes when nobody has it and no running machine borrows from it.
 */
export class Frozen implements AsyncDisposable {
  readonly id: string;
  readonly record: FrozenRecord;
  #release: (() => Promise<void>) | undefined;

  constructor(record: FrozenRecord, release: () => Promise<void>) {
    this.id = record.id;
    this.record = record;
    this.#release = release;
  }

  get directory(): string {
    return frozenDirectory(this.id);
  }

  get ramPath(): string {
    return frozenRam(this.id);
  }

  /** The stream that QEMU wrote of its devices, verified. STATE_MEMORY. */
  async device(): Promise<Buffer> {
    return await readFrozenDevice(this.record);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const release = this.#release;
    this.#release = undefined;
    await release?.();
  }
}

/** A frozen machine that is being made: a directory that counts for nothing. Disposing of it removes it, unless it was kept. */
export class FrozenDraft implements AsyncDisposable {
  readonly id: string;
  readonly directory: string;
  readonly #keep: (content: FrozenContent) => Promise<Frozen>;

  constructor(id: string, directory: string, keep: (content: FrozenContent) => Promise<Frozen>) {
    this.id = id;
    this.directory = directory;
    this.#keep = keep;
  }

  /** To be made by whoever makes this. */
  get ramPath(): string {
    return join(this.directory, "ram");
  }

  /** Makes it what it is to be; the caller then has it. */
  async keep(content: FrozenContent): Promise<Frozen> {
    return await this.#keep(content);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }
}

export interface FrozenOptions {
  home: string;
  /** Ids of those that running machines borrow from. */
  borrowed(): ReadonlySet<string>;
  /** Refuses a copy of that much of a machine's memory. MEMORY_SHORT. */
  admit(machine: string, bytes: number): Promise<void>;
  log: { warn(fields: object, message: string): void; error(fields: object, message: string): void };
}

/** The frozen machines of one home. A host that boots has none: each can be made again from a state. */
export class FrozenMachines implements AsyncDisposable {
  readonly home: string;
  readonly #admit: FrozenOptions["admit"];
  /** What copies that are being made may still take. */
  #promised = 0;
  /** For whatever is done with the memory of this home's machines. */
  readonly idle = new IdleThreads();
  readonly kept: KeptMemory;
  readonly #borrowed: FrozenOptions["borrowed"];
  readonly #log: FrozenOptions["log"];
  readonly #turns = new KeyedMutex();
  /** How often each was given to somebody who has it still. */
  readonly #held = new Map<string, number>();

  constructor({ home, borrowed, admit, log }: FrozenOptions) {
    this.home = home;
    this.#admit = admit;
    this.#borrowed = borrowed;
    this.#log = log;
    this.kept = new KeptMemory({ home, log });
  }

  /**
   * Refuses a copy of that much of a machine's memory where this host lacks it; else that much is promised until what
   * is given back is disposed of. MEMORY_SHORT.
   */
  async admit(machine: string, bytes: number): Promise<Disposable> {
    this.#promised += bytes;
    const promise = {
      [Symbol.dispose]: () => {
        this.#promised -= bytes;
      },
    };
    try {
      await this.#admit(machine, this.#promised);
      return promise;
    } catch (error) {
      promise[Symbol.dispose]();
      throw error;
    }
  }

  /** An empty draft, to be disposed of. EEXIST where it is being made already. */
  async begin(id: string): Promise<FrozenDraft> {
    const directory = this.#draftDirectory(id);
    await mkdir(directory, { mode: 0o700 });
    return new FrozenDraft(id, directory, (content) => this.#keep(id, directory, content));
  }

  /**
   * The one of that id where it is there and as its record says, else the one that `make` makes. STATE_MEMORY
   * where it is not as its record says, and cannot be made anew because a machine borrows from it.
   */
  async take(id: string, make: (draft: FrozenDraft) => Promise<FrozenContent>): Promise<Frozen> {
    return await this.#turns.run(id, async () => {
      const record = await this.#find(id);
      if (record !== undefined) return this.#give(record);
      await using draft = await this.begin(id);
      return await draft.keep(await make(draft));
    });
  }

  async #find(id: string): Promise<FrozenRecord | undefined> {
    const whose = await whoseFrozen(this.home, id);
    if (whose === undefined) return undefined;
    if (whose === "theirs") {
      throw fail("STATE_MEMORY", { path: frozenDirectory(id), why: "it is not this installation's" });
    }
    try {
      return await readFrozen(id);
    } catch (error) {
      const isDamage = error instanceof SkepError && error.code === "STATE_MEMORY";
      if (!isDamage || this.#isUsed(id)) throw error;
      this.#log.error({ frozen: id, err: error }, "a frozen machine is damaged and made anew");
      await this.#remove(id);
      return undefined;
    }
  }

  async #keep(id: string, directory: string, content: FrozenContent): Promise<Frozen> {
    const { form, stream } = content.device;
    await writeFile(join(directory, "device"), stream, { flag: "wx", mode: 0o600 });
    const gid = isRoot ? await freeGid() : null;
    const ram = join(directory, "ram");
    // QEMU 7.2 opens it for writing even where it maps it privately.
    if (gid !== null) await chown(ram, 0, gid);
    await chmod(ram, gid === null ? 0o600 : 0o660);
    const device = { form, bytes: stream.length, sha256: hash("sha256", stream, "hex") };
    const populatedBytes = (await stat(ram)).blocks * 512;
    const record = { ...content, version: 1, home: this.home, id, gid, device, populatedBytes } as const;
    await writeFrozenRecord(directory, record);
    if (gid !== null) await chmod(directory, 0o711);
    const frozen = this.#give(record);
    try {
      await rename(directory, frozen.directory);
    } catch (error) {
      this.#giveBack(id);
      throw error;
    }
    return frozen;
  }

  #give(record: FrozenRecord): Frozen {
    const { id } = record;
    this.#held.set(id, (this.#held.get(id) ?? 0) + 1);
    return new Frozen(record, async () => {
      await this.#turns.run(id, async () => {
        this.#giveBack(id);
        if (!this.#isUsed(id)) await this.#remove(id);
      });
    });
  }

  #giveBack(id: string): void {
    const left = (this.#held.get(id) ?? 1) - 1;
    if (left === 0) this.#held.delete(id);
    else this.#held.set(id, left);
  }

  #isUsed(id: string): boolean {
    return this.#held.has(id) || this.#borrowed().has(id);
  }

  /** By way of a draft, so that what is half removed has a name that says so. */
  async #remove(id: string): Promise<void> {
    const draft = this.#draftDirectory(id);
    await rm(draft, { recursive: true, force: true });
    await rename(frozenDirectory(id), draft).catch((error: unknown) => {
      if (!isErrno(error, "ENOENT")) throw error;
    });
    await rm(draft, { recursive: true, force: true });
  }

  /** To be called when no machine borrows from it any more. */
  async letGo(id: string): Promise<void> {
    await this.#turns.run(id, async () => {
      if (this.#isUsed(id) || (await whoseFrozen(this.home, id)) !== "ours") return;
      await this.#remove(id);
    });
  }

  /** Removes those of this home that nobody has and no running machine borrows from. */
  async sweep(): Promise<void> {
    for (const name of await frozenNames()) {
      const id = frozenId(name);
      if (id === undefined) continue;
      await this.letGo(id).catch((error: unknown) =>
        this.#log.error({ frozen: id, err: error }, "cannot remove it"),
      );
    }
  }

  /** Removes what earlier processes of this home left half made; nothing may be in the making. */
  async sweepDrafts(): Promise<void> {
    const prefix = this.#draftDirectory("");
    for (const name of await frozenNames()) {
      const path = join(frozenPlace, name);
      if (path.startsWith(prefix) && (await isOwnDirectory(path))) await rm(path, { recursive: true });
    }
  }

  /** Frozen machines stay; what is kept only to be quicker goes, as nobody would see it grow old. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.kept.dropAll();
    this.kept[Symbol.dispose]();
    await this.idle[Symbol.asyncDispose]();
  }

  /** The name tells the home: a draft has no record yet. */
  #draftDirectory(id: string): string {
    return join(frozenPlace, `skep-frozen-.tmp-${homeMark(this.home)}-${id}`);
  }
}
