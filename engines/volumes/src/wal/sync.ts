import type { Files } from "@skep/objects/files";
import type { Segment } from "./segment.ts";

/**
 * Group commit: one round of fdatasync at a time over all segments with unsynced bytes. Whoever asks during a
 * round waits for the next one, together with all others, unless nothing was written since it began.
 */
export class SyncRounds {
  readonly #files: Files;
  readonly #directory: string;
  readonly #earlyBytes: number;
  #unsynced = new Set<Segment>();
  /** A new file's name is not on stable storage yet. */
  #hasNewNames = false;
  #running: Promise<void> | undefined;
  #next: Promise<void> | undefined;
  #failure: unknown;
  #written: bigint;
  /** Since the last round began. */
  #unsyncedBytes = 0;
  #synced: bigint;

  /**
   * `synced`: the number of the last slot, which is on stable storage. `earlyBytes`: when so many are unsynced, a
   * round begins before anybody asks, so that a later flush is short.
   */
  constructor(files: Files, directory: string, synced: bigint, earlyBytes: number) {
    this.#earlyBytes = earlyBytes;
    this.#files = files;
    this.#directory = directory;
    this.#written = synced;
    this.#synced = synced;
  }

  /** Slots up to this number are on stable storage. */
  get synced(): bigint {
    return this.#synced;
  }

  /** Throws once a sync has failed: what the kernel then says of the same bytes is not to be believed. */
  check(): void {
    if (this.#failure === undefined) return;
    const why = (this.#failure as Error).message;
    throw Object.assign(new Error(`EIO: a sync of ${this.#directory} has failed: ${why}`), {
      code: "EIO",
      cause: this.#failure,
    });
  }

  created(segment: Segment): void {
    this.#hasNewNames = true;
    this.#unsynced.add(segment);
  }

  /** All slots up to this number have been written, so many bytes with this call. */
  written(segment: Segment, sequence: bigint, bytes: number): void {
    this.#unsynced.add(segment);
    this.#written = sequence;
    this.#unsyncedBytes += bytes;
    // A round that somebody waits for begins by itself: with two at once the later one would end too early.
    const isUnderWay = this.#running !== undefined || this.#next !== undefined;
    if (isUnderWay || this.#unsyncedBytes < this.#earlyBytes) return;
    // Whoever asks next hears of a failure.
    this.#start().catch(() => undefined);
  }

  removed(segment: Segment): void {
    this.#unsynced.delete(segment);
  }

  async sync(): Promise<void> {
    if (this.#next !== undefined) {
      await this.#next;
    } else if (this.#unsynced.size === 0 && !this.#hasNewNames) {
      await this.#running;
    } else if (this.#running === undefined) {
      await this.#start();
    } else {
      this.#next = this.#running.then(
        () => this.#start(),
        () => this.#start(),
      );
      await this.#next;
    }
    this.check();
  }

  #start(): Promise<void> {
    this.#next = undefined;
    this.#running = this.#round().finally(() => (this.#running = undefined));
    return this.#running;
  }

  async #round(): Promise<void> {
    this.check();
    const segments = [...this.#unsynced];
    const hasNewNames = this.#hasNewNames;
    const written = this.#written;
    this.#unsynced = new Set();
    this.#unsyncedBytes = 0;
    this.#hasNewNames = false;
    try {
      // All are in use from here on: a drain may remove the last one while the first is still being synced.
      await Promise.all(segments.map((segment) => segment.use(() => segment.file.datasync())));
      if (hasNewNames) await this.#files.syncDirectory(this.#directory);
      this.#synced = written;
    } catch (error) {
      this.#failure ??= error;
      this.check();
    }
  }
}
