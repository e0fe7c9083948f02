import { open, stat } from "node:fs/promises";
import { join } from "node:path";
import { anonymousBytes, frozenRam, type LiveMachine, memoryDirectory } from "@skep/machines";
import { type IdleThreads, MemoryThreads, type Piece } from "./memory-threads.ts";
import { ownPages } from "./own-pages.ts";
import { checkMemoryFile } from "./pack.ts";
import { populatedRanges, type Range, without } from "./ranges.ts";
import { together } from "./together.ts";

const mebibyte = 1024 ** 2;

/**
 * A copy of a running guest's memory, in two passes: most of the work is the allocation of the copy, which the
 * guest need not wait for.
 */
export interface MemoryCopy extends AsyncDisposable {
  /** While the guest runs. */
  begin(): Promise<void>;
  /** While it stands still: from then on the copy is its memory at that instant. */
  finish(): Promise<void>;
}

/** Where the memory of a running machine is: its own file, or the frozen one that it borrows. */
export function ramOf({ frozen, machine }: LiveMachine): string {
  return frozen === null ? join(memoryDirectory(machine.file.id), "ram") : frozenRam(frozen);
}

/** How much memory its guest has touched, in bytes, which is what a copy of it takes. */
export async function memoryInUse(live: LiveMachine): Promise<number> {
  const touched = (await stat(ramOf(live))).blocks * 512;
  if (live.frozen === null) return touched;
  return Math.min(live.machine.file.memoryMiB * mebibyte, touched + anonymousBytes(live.process.pid));
}

/** A copy into a file that is not there yet. STATE_MEMORY where the memory is not what it should be. */
export async function copyMemory(
  live: LiveMachine,
  into: string,
  { idle, signal }: { idle: IdleThreads; signal: AbortSignal },
): Promise<MemoryCopy> {
  const from = ramOf(live);
  const memoryBytes = live.machine.file.memoryMiB * mebibyte;
  await checkMemoryFile(from, memoryBytes);
  if (live.frozen !== null) await checkReadable(live);
  const file = await open(into, "wx", 0o600);
  await file.truncate(memoryBytes).finally(() => file.close());
  const options = { from, into, memoryBytes, idle, signal };
  return live.frozen === null ? new SharedCopy(options) : new BorrowedCopy(options, live.process.pid);
}

/** Before the guest is stopped: an adopted QEMU is no child of ours, whose memory Yama lets us read. */
async function checkReadable({ machine, process }: LiveMachine): Promise<void> {
  try {
    await (await open(memoryOf(process.pid), "r")).close();
  } catch (error) {
    const restart = `or restart it: skep restart ${machine.name}`;
    const allow = `allow it (sysctl kernel.yama.ptrace_scope=0), ${restart}`;
    throw new Error(`this system lets nobody read its memory (${(error as Error).message}); ${allow}`);
  }
}

/** Of a process, as it sees it (proc(5)). */
function memoryOf(pid: number): string {
  return `/proc/${pid}/mem`;
}

interface CopyOptions {
  from: string;
  into: string;
  memoryBytes: number;
  idle: IdleThreads;
  signal: AbortSignal;
}

/** Of memory that QEMU shares with its file. Comparing with the first pass would cost as much as the second. */
class SharedCopy implements MemoryCopy {
  readonly #options: CopyOptions;
  readonly #threads: MemoryThreads;
  #ranges: Range[] = [];
  #blocks = 0;

  constructor(options: CopyOptions) {
    this.#options = options;
    this.#threads = new MemoryThreads(options, options.idle);
  }

  async begin(): Promise<void> {
    const { from, memoryBytes, signal } = this.#options;
    this.#blocks = (await stat(from)).blocks;
    this.#ranges = await populatedRanges(from, memoryBytes, signal);
    await this.#threads.copy(piecesOf(this.#ranges), signal);
  }

  async finish(): Promise<void> {
    const { signal } = this.#options;
    await together(
      () => this.#threads.copy(piecesOf(this.#ranges), signal),
      async () => await this.#threads.copy(piecesOf(await this.#newRanges()), signal),
    );
  }

  /** Memory only ever grows: with the same number of blocks it is where it was. */
  async #newRanges(): Promise<Iterable<Range>> {
    const { from, memoryBytes, signal } = this.#options;
    if ((await stat(from)).blocks === this.#blocks) return [];
    return without(await populatedRanges(from, memoryBytes, signal), this.#ranges);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads[Symbol.asyncDispose]();
  }
}

/** Of memory that QEMU maps privately: the file, which nobody writes, and over it the pages it has of its own. */
class BorrowedCopy implements MemoryCopy {
  readonly #options: CopyOptions;
  readonly #pid: number;
  /** There before the guest is stopped. */
  readonly #own: MemoryThreads;

  constructor(options: CopyOptions, pid: number) {
    this.#options = options;
    this.#pid = pid;
    this.#own = new MemoryThreads({ ...options, from: memoryOf(pid) }, options.idle);
  }

  async begin(): Promise<void> {
    const { from, memoryBytes, idle, signal } = this.#options;
    await using threads = new MemoryThreads(this.#options, idle);
    await threads.copy(piecesOf(await populatedRanges(from, memoryBytes, signal)), signal);
  }

  async finish(): Promise<void> {
    const { from, memoryBytes, signal } = this.#options;
    await this.#own.copy(await ownPages(this.#pid, from, memoryBytes), signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#own[Symbol.asyncDispose]();
  }
}

function* piecesOf(ranges: Iterable<Range>): Generator<Piece> {
  for (const { start, end } of ranges) yield { from: start, to: start, bytes: end - start };
}
