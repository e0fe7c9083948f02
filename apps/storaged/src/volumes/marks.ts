import type { OpenVolume, VolumeMark } from "@skep/volumes";
import type { Logger } from "pino";
import { fail } from "../errors.ts";
import type { OpenVolumes } from "./open.ts";
import type { Records } from "./records.ts";

/** Of one volume: what the snapshot shall be called. A name that is taken there is left out. */
export interface WantedMark {
  volume: string;
  /** The id of the snapshot. */
  snapshot: string;
  name: string;
}

export interface MarksOptions {
  records: Records;
  open: OpenVolumes;
  log: Logger;
  /** After it a mark that nobody has completed is given up. */
  keptMs?: number;
}

interface Kept extends AsyncDisposable {
  parts: { volume: OpenVolume; mark: VolumeMark }[];
  timer: NodeJS.Timeout;
}

/** A store that does not answer keeps nobody waiting for ever. */
const removeLimitMs = 60_000;
const usualKeptMs = 15 * 60_000;

/**
 * Instants of volumes that belong together, from when they are captured until all of them are snapshots, or none is.
 * They go with this process: whoever completes one then learns that it is gone.
 */
export class Marks implements AsyncDisposable {
  readonly #options: MarksOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: MarksOptions) {
    this.#options = options;
  }

  /** Captures all of them in one turn; `mark` is a word of the caller's. Whatever fails leaves nothing. */
  async keep(mark: string, wanted: readonly WantedMark[], signal: AbortSignal): Promise<void> {
    const { records, open, log, keptMs = usualKeptMs } = this.#options;
    if (this.#kept.has(mark)) throw fail("MARK_EXISTS", { mark });
    await using opening = new AsyncDisposableStack();
    const volumes: OpenVolume[] = [];
    for (const { volume } of wanted) {
      const record = records.find(volume);
      if (record.filling !== null) throw fail("VOLUME_FILLING", { id: record.id });
      volumes.push(opening.use(await open.hold(record)).volume);
    }
    signal.throwIfAborted();
    const parts = markAll(volumes, wanted);
    const stack = opening.move();
    const timer = setTimeout(() => {
      log.warn({ mark }, "nobody has completed the snapshots of these volumes: they are given up");
      this.abandon(mark).catch((error: unknown) => log.error({ err: error, mark }, "cannot close volumes"));
    }, keptMs).unref();
    this.#kept.set(mark, { parts, timer, [Symbol.asyncDispose]: () => stack.disposeAsync() });
  }

  /** Once only; where one fails, none stays, as far as its store answers. MARK_UNKNOWN. */
  async complete(mark: string, signal: AbortSignal): Promise<void> {
    await using kept = this.#take(mark);
    if (kept === undefined) throw fail("MARK_UNKNOWN", { mark });
    const ended = await Promise.allSettled(kept.parts.map((part) => part.mark.complete({ signal })));
    const failed = ended.find((one) => one.status === "rejected");
    if (failed === undefined) return;
    for (const part of kept.parts) part.mark.abandon();
    // Of all, and not by the signal: what was given up may still be under way, and this comes after it.
    for (const { volume, mark: part } of kept.parts) {
      await volume
        .removeSnapshot(part.id, { signal: AbortSignal.timeout(removeLimitMs) })
        .catch((error: unknown) => {
          if ((error as { code?: string }).code === "SNAPSHOT_NOT_FOUND") return;
          this.#options.log.warn({ err: error, volume: volume.id }, "cannot remove a snapshot");
        });
    }
    throw failed.reason;
  }

  /** Nothing happens where it is not there. */
  async abandon(mark: string): Promise<void> {
    await using kept = this.#take(mark);
    for (const part of kept?.parts ?? []) part.mark.abandon();
  }

  #take(mark: string): Kept | undefined {
    const kept = this.#kept.get(mark);
    this.#kept.delete(mark);
    clearTimeout(kept?.timer);
    return kept;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#kept.keys()].map((mark) => this.abandon(mark)));
  }
}

/** In one turn: of all, or of none. */
function markAll(volumes: readonly OpenVolume[], wanted: readonly WantedMark[]): Kept["parts"] {
  const parts: Kept["parts"] = [];
  try {
    for (const [index, volume] of volumes.entries()) {
      const { snapshot: id, name } = wanted[index] as WantedMark;
      const isTaken = volume.info().snapshots.some((one) => one.name === name);
      parts.push({ volume, mark: volume.mark(isTaken ? { id } : { id, name }) });
    }
    return parts;
  } catch (error) {
    for (const { mark } of parts) mark.abandon();
    throw error;
  }
}
