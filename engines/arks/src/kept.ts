import { chmod, chown, link, lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { totalmem } from "node:os";
import { join } from "node:path";
import { homeMark, readVersionedJson, writeVersionedJson } from "@skep/base";
import { frozenPlace, isOwnDirectory } from "./frozen-files.ts";
import { isStateId } from "./paths.ts";

/** Beside the memory, from when nobody can write it any more. */
interface KeptRecord {
  version: 1;
  state: string;
  /** Of the manifest: the state that was packed from this very file, while its guest stood still. */
  digest: string;
  bytes: number;
}

export interface KeptLimits {
  /** Of all that is kept. */
  bytes: number;
  ms: number;
}

export interface KeptOptions {
  home: string;
  log: { warn(fields: object, message: string): void };
  limits?: KeptLimits;
}

const recordVersion = 1;
const isRoot = process.getuid?.() === 0;

function prefixOf(home: string): string {
  return `skep-kept-${homeMark(home)}-`;
}

function directoryOf(home: string, state: string): string {
  return join(frozenPlace, `${prefixOf(home)}${state}`);
}

/**
 * The memory of machines that were suspended not long ago, in tmpfs as QEMU left it, so that a resume need not
 * unpack it. A cache beside states that are whole without it: whatever is wrong with one, it goes.
 */
export class KeptMemory implements Disposable {
  readonly #home: string;
  readonly #log: KeptOptions["log"];
  readonly #limits: KeptLimits;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor({ home, log, limits = { bytes: totalmem() / 8, ms: 3_600_000 } }: KeptOptions) {
    this.#home = home;
    this.#log = log;
    this.#limits = limits;
  }

  /** While QEMU has it still: what it leaves gets a second name. False where that is not to be, or cannot be. */
  async begin(state: string, ramPath: string): Promise<boolean> {
    const directory = directoryOf(this.#home, state);
    try {
      if ((await lstat(ramPath)).blocks * 512 > this.#limits.bytes) return false;
      await mkdir(directory, { mode: 0o700 });
      await link(ramPath, join(directory, "ram"));
      return true;
    } catch (error) {
      this.#log.warn({ state, err: error }, "cannot keep its memory for a quick resume");
      await this.drop(state);
      return false;
    }
  }

  /** Once its QEMU is gone. */
  async finish(state: string, digest: string): Promise<void> {
    const directory = directoryOf(this.#home, state);
    const ram = join(directory, "ram");
    try {
      if (isRoot) await chown(ram, 0, 0);
      await chmod(ram, 0o600);
      const { size } = await lstat(ram);
      const record: KeptRecord = { version: recordVersion, state, digest, bytes: size };
      await writeVersionedJson(join(directory, "record.json"), record);
      await this.trim();
    } catch (error) {
      this.#log.warn({ state, err: error }, "cannot keep its memory for a quick resume");
      await this.drop(state);
    }
  }

  /** Moves it to where QEMU is to find it; false where there is none, or not what the state was packed from. */
  async take(
    state: string,
    { digest, bytes, into }: { digest: string; bytes: number; into: string },
  ): Promise<boolean> {
    const directory = directoryOf(this.#home, state);
    const ram = join(directory, "ram");
    try {
      if (!(await isOwnDirectory(directory))) return false;
      const record = await readVersionedJson<KeptRecord>(join(directory, "record.json"), recordVersion);
      const found = await lstat(ram);
      const isIt = record.state === state && record.digest === digest && record.bytes === bytes;
      if (isIt && found.isFile() && found.size === bytes && found.uid === process.getuid?.()) {
        await rename(ram, into);
        return true;
      }
    } catch (error) {
      this.#log.warn({ state, err: error }, "cannot use the memory that was kept");
    } finally {
      await this.drop(state);
    }
    return false;
  }

  async drop(state: string): Promise<void> {
    await dropKept(this.#home, state).catch((error: unknown) =>
      this.#log.warn({ state, err: error }, "cannot let go of memory that was kept"),
    );
  }

  /** Removes what is beyond the limits, the oldest first. */
  async trim({ bytes, ms } = this.#limits): Promise<void> {
    const youngestFirst = (await this.#all()).sort((one, other) => other.at - one.at);
    let sum = 0;
    let oldest: number | undefined;
    for (const { state, allocated, at } of youngestFirst) {
      sum += allocated;
      if (sum > bytes || Date.now() - at >= ms) await this.drop(state);
      else oldest = at;
    }
    clearTimeout(this.#timer);
    if (oldest === undefined || this.#isOver) return;
    this.#timer = setTimeout(() => void this.trim(), oldest + ms - Date.now() + 1000).unref();
  }

  /** Gives back all of it, for who needs memory now. */
  async dropAll(): Promise<void> {
    await this.trim({ bytes: 0, ms: 0 });
  }

  /** At the start: what no machine sleeps on goes. */
  async sweep(isUsed: (state: string) => boolean): Promise<void> {
    for (const { state, whole } of await this.#all()) if (!whole || !isUsed(state)) await this.drop(state);
    await this.trim();
  }

  async #all(): Promise<{ state: string; allocated: number; at: number; whole: boolean }[]> {
    const prefix = prefixOf(this.#home);
    const found = [];
    for (const name of await readdir(frozenPlace).catch(() => [])) {
      const state = name.startsWith(prefix) ? name.slice(prefix.length) : "";
      const directory = join(frozenPlace, name);
      if (!isStateId(state) || !(await isOwnDirectory(directory))) continue;
      const ram = await lstat(join(directory, "ram")).catch(() => undefined);
      const record = await lstat(join(directory, "record.json")).catch(() => undefined);
      const allocated = (ram?.blocks ?? 0) * 512;
      found.push({ state, allocated, at: record?.mtimeMs ?? Date.now(), whole: record !== undefined });
    }
    return found;
  }

  [Symbol.dispose](): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }
}

/** Where there is some, and it is ours. */
export async function dropKept(home: string, state: string): Promise<void> {
  const directory = directoryOf(home, state);
  if (await isOwnDirectory(directory)) await rm(directory, { recursive: true, force: true });
}
