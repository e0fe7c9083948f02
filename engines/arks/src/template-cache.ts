import { quietWork } from "@skep/base";
import type { Frozen, FrozenMachines } from "./frozen.ts";
import { whoseFrozen } from "./frozen-files.ts";
import { frozenFromState } from "./frozen-state.ts";
import type { TemplateRecord } from "./template-record.ts";

const mebibyte = 1024 ** 2;
const hourMs = 3_600_000;
const lookMs = 600_000;

/** What may be set of templates. */
export interface TemplateSettings {
  /** Whether machines begin from templates. */
  use: boolean;
  /** Whether templates are made where a machine had to boot. */
  build: boolean;
  /** Templates that are kept on disk. */
  most: number;
  /** Memory of templates that is kept in /dev/shm. */
  keepMiB: number;
  /** How long after its last use. */
  keepHours: number;
}

export const defaultSettings: TemplateSettings = {
  use: true,
  build: true,
  most: 8,
  keepMiB: 1024,
  keepHours: 24,
};

/**
 * The memory of templates that was used lately, in /dev/shm: a cache, made again from their states when it is wanted.
 * What a running machine borrows stays there anyway.
 */
export class TemplatesInMemory implements AsyncDisposable {
  readonly #frozen: FrozenMachines;
  readonly #settings: TemplateSettings;
  /** Those used last are last. */
  readonly #kept = new Map<string, { frozen: Frozen; usedMs: number }>();
  readonly #timer: NodeJS.Timeout;

  constructor({ frozen, settings }: { frozen: FrozenMachines; settings: TemplateSettings }) {
    this.#frozen = frozen;
    this.#settings = settings;
    this.#timer = setInterval(() => void this.#shrink().catch(() => undefined), lookMs).unref();
  }

  has(id: string): boolean {
    return this.#kept.has(id);
  }

  /** Takes over what the caller has. */
  async keep(id: string, frozen: Frozen): Promise<void> {
    const before = this.#kept.get(id);
    this.#kept.delete(id);
    this.#kept.set(id, { frozen, usedMs: Date.now() });
    await before?.frozen[Symbol.asyncDispose]();
    await this.#shrink();
  }

  /** Of one that was just used, and is there. */
  async load({ id, digest }: TemplateRecord): Promise<void> {
    await this.keep(id, await frozenFromState(this.#frozen, { state: id, digest }, quietWork()));
  }

  /** What an earlier process has left, where it is whole. */
  async adopt(templates: readonly TemplateRecord[]): Promise<void> {
    for (const { id, digest } of templates) {
      const there = (await whoseFrozen(this.#frozen.home, id)) === "ours";
      if (!there || this.#kept.has(id)) continue;
      const frozen = await frozenFromState(this.#frozen, { state: id, digest }, quietWork()).catch(
        () => undefined,
      );
      if (frozen !== undefined) await this.keep(id, frozen);
    }
  }

  async drop(id: string): Promise<void> {
    const kept = this.#kept.get(id);
    this.#kept.delete(id);
    await kept?.frozen[Symbol.asyncDispose]();
  }

  async dropAll(): Promise<void> {
    for (const id of [...this.#kept.keys()]) await this.drop(id);
  }

  async #shrink(): Promise<void> {
    const { keepMiB, keepHours } = this.#settings;
    const oldest = Date.now() - keepHours * hourMs;
    for (const [id, { usedMs }] of [...this.#kept]) {
      if (usedMs < oldest || this.#bytes() > keepMiB * mebibyte) await this.drop(id);
    }
  }

  #bytes(): number {
    return [...this.#kept.values()].reduce((sum, { frozen }) => sum + frozen.record.populatedBytes, 0);
  }

  /** What is in /dev/shm stays there, for the next process. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#kept.clear();
  }
}
