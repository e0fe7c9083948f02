import { dirname } from "node:path";
import type { AsyncFile, Files, SyncFile } from "../files.ts";
import type { Random } from "./random.ts";
import { Crash, type Schedule } from "./schedule.ts";

type Change = { kind: "write"; at: number; bytes: Buffer } | { kind: "truncate"; size: number };

/** A file's content, what of it is on stable storage, and the changes between the two. */
class Inode {
  content: Buffer = Buffer.alloc(0);
  stable: Buffer = Buffer.alloc(0);
  pending: Change[] = [];
  /** A failed flush has dropped changes that readers still see. */
  hasLost = false;
  /** Room behind `content`, so that a log grows without a copy, while that is what was appended last. */
  #room: Buffer = this.content;
  #appended: Buffer = this.content;

  change(change: Change): void {
    this.pending.push(change);
    const isAtEnd = change.kind === "write" && change.at === this.content.length;
    this.content = isAtEnd ? this.#append(change.bytes) : applied(this.content, change);
  }

  #append(bytes: Buffer): Buffer {
    const { length } = this.content;
    if (this.content !== this.#appended || length + bytes.length > this.#room.length) {
      this.#room = Buffer.alloc(2 * (length + bytes.length));
      this.content.copy(this.#room);
    }
    bytes.copy(this.#room, length);
    this.#appended = this.#room.subarray(0, length + bytes.length);
    return this.#appended;
  }

  /** Up to that change, or all. */
  sync(last = this.pending.at(-1)): void {
    const isAll = last === this.pending.at(-1);
    const count = last === undefined ? 0 : this.pending.indexOf(last) + 1;
    if (isAll && !this.hasLost) this.stable = this.content;
    else this.stable = this.pending.slice(0, count).reduce(applied, this.stable);
    this.pending = this.pending.slice(count);
  }

  /** As Linux does it: what could not be written counts as written from then on. */
  failSync(): void {
    this.pending = [];
    this.hasLost = true;
  }
}

function applied(content: Buffer, change: Change): Buffer {
  if (change.kind === "truncate") {
    const next = Buffer.alloc(change.size);
    content.copy(next, 0, 0, change.size);
    return next;
  }
  const next = Buffer.alloc(Math.max(content.length, change.at + change.bytes.length));
  content.copy(next);
  change.bytes.copy(next, change.at);
  return next;
}

const sectorBytes = 64;

/**
 * A file system in memory that forgets as a disk does: what was not flushed may be there after a power
 * loss, wholly, in part or not at all, and so may a name whose folder was not flushed.
 */
export class SimulatedFiles implements Files {
  readonly #random: Random;
  #names = new Map<string, Inode>();
  #stableNames = new Map<string, Inode>();
  #schedule: Schedule;
  /** How often a write fails because the disk is full. */
  fullProbability = 0;
  /** How often a flush of a file fails, after which what it should have flushed is not on the disk. */
  syncFailureProbability = 0;
  freeBytes = Number.POSITIVE_INFINITY;

  constructor(random: Random, schedule: Schedule) {
    this.#random = random;
    this.#schedule = schedule;
  }

  /** The machine starts again, with what it has. */
  restart(schedule: Schedule): void {
    this.#schedule = schedule;
  }

  /** All that was not flushed is lost, kept or torn. */
  losePower(): void {
    const names = new Map(this.#stableNames);
    for (const path of new Set([...this.#names.keys(), ...names.keys()])) {
      const current = this.#names.get(path);
      if (current === names.get(path) || this.#random.chance(0.5)) continue;
      if (current === undefined) names.delete(path);
      else names.set(path, current);
    }
    for (const inode of new Set(names.values())) {
      let content = inode.stable;
      for (const change of inode.pending) {
        const fate = this.#random.below(3);
        if (fate === 0) continue;
        if (fate === 1 || change.kind === "truncate") content = applied(content, change);
        else {
          for (let at = 0; at < change.bytes.length; at += sectorBytes) {
            if (this.#random.chance(0.5)) continue;
            const bytes = change.bytes.subarray(at, at + sectorBytes);
            content = applied(content, { kind: "write", at: change.at + at, bytes });
          }
        }
      }
      inode.content = content;
      inode.hasLost = false;
      inode.sync();
    }
    this.#names = names;
    this.#stableNames = new Map(names);
  }

  /** Paths of all files. */
  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** Changes a byte as a failing disk does. */
  damage(path: string, position: number): void {
    const inode = this.#inode(path);
    inode.content = Buffer.from(inode.content);
    inode.content[position] = (inode.content[position] as number) ^ 0x20;
    inode.sync();
  }

  size(path: string): number {
    return this.#inode(path).content.length;
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw failure("ENOENT", path);
    return inode;
  }

  /** A step without a middle: the machine stops before it. */
  #step(): void {
    if (this.#schedule.stopsHere()) throw new Crash();
  }

  openSync(path: string, mode: "read" | "write"): SyncFile {
    this.#step();
    if (mode === "write" && !this.#names.has(path)) this.#names.set(path, new Inode());
    return this.#file(path, this.#inode(path));
  }

  #file(path: string, inode: Inode): SyncFile & { datasync(last?: Change): void } {
    return {
      read: (buffer, position) => {
        this.#step();
        if (position >= inode.content.length) return 0;
        return inode.content.copy(buffer, 0, position, position + buffer.length);
      },
      write: (buffers, position) => this.#write(path, inode, Buffer.concat(buffers), position),
      datasync: (last?: Change) => {
        this.#step();
        if (this.#random.chance(this.syncFailureProbability)) {
          inode.failSync();
          throw failure("EIO", path);
        }
        inode.sync(last);
      },
      truncate: (size) => {
        this.#step();
        inode.change({ kind: "truncate", size });
      },
      size: () => inode.content.length,
      close: () => undefined,
    };
  }

  #write(path: string, inode: Inode, bytes: Buffer, at: number): void {
    const written = (length: number) => inode.change({ kind: "write", at, bytes: bytes.subarray(0, length) });
    if (this.#schedule.stopsHere()) {
      written(this.#random.below(bytes.length + 1));
      throw new Crash();
    }
    if (this.#random.chance(this.fullProbability)) {
      written(this.#random.below(bytes.length));
      throw failure("ENOSPC", path);
    }
    written(bytes.length);
  }

  async open(path: string, mode: "read" | "write" | "create"): Promise<AsyncFile> {
    await this.#schedule.turn();
    this.#step();
    if (mode === "create") {
      if (this.#names.has(path)) throw failure("EEXIST", path);
      this.#names.set(path, new Inode());
    }
    const inode = this.#inode(path);
    const file = this.#file(path, inode);
    const later = async <T>(work: () => T): Promise<T> => {
      await this.#schedule.turn();
      return work();
    };
    return {
      read: (buffer, position) => later(() => file.read(buffer, position)),
      write: (buffers, position) => later(() => file.write(buffers, position)),
      readSync: (buffer, position) => file.read(buffer, position),
      writeSync: (buffers, position) => file.write(buffers, position),
      // What is written while it runs it need not cover.
      datasync: () => {
        const last = inode.pending.at(-1);
        return later(() => {
          if (last !== undefined) file.datasync(last);
        });
      },
      truncate: (sizeBytes) => later(() => file.truncate(sizeBytes)),
      size: () => later(() => file.size()),
      close: async () => undefined,
    };
  }

  readdirSync(path: string): string[] {
    this.#step();
    const names = new Set<string>();
    for (const known of this.#names.keys()) {
      if (known.startsWith(`${path}/`)) names.add(known.slice(path.length + 1).split("/")[0] as string);
    }
    return [...names].sort();
  }

  async readdir(path: string): Promise<string[]> {
    await this.#schedule.turn();
    return this.readdirSync(path);
  }

  /** Folders are there when something is in them; that theirs names are flushed is not simulated. */
  mkdirSync(): void {
    this.#step();
  }

  async mkdir(): Promise<void> {
    await this.#schedule.turn();
    this.#step();
  }

  unlinkSync(path: string): void {
    this.#step();
    this.#inode(path);
    this.#names.delete(path);
  }

  async unlink(path: string): Promise<void> {
    await this.#schedule.turn();
    this.unlinkSync(path);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#schedule.turn();
    this.#step();
    this.#names.set(to, this.#inode(from));
    this.#names.delete(from);
  }

  syncDirectorySync(path: string): void {
    this.#step();
    for (const known of new Set([...this.#names.keys(), ...this.#stableNames.keys()])) {
      if (dirname(known) !== path) continue;
      const inode = this.#names.get(known);
      if (inode === undefined) this.#stableNames.delete(known);
      else this.#stableNames.set(known, inode);
    }
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#schedule.turn();
    this.syncDirectorySync(path);
  }

  freeBytesSync(): number {
    return this.freeBytes;
  }
}

function failure(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${path}`), { code });
}
