import type { Readable, Writable } from "node:stream";
import type { Work } from "@skep/base";

/** How a command runs inside the guest. An empty `command` is the user's login shell. */
export interface ExecRequest {
  command: readonly string[];
  /** A terminal of this size in the guest; absent for separate stdout and stderr. */
  tty?: { columns: number; rows: number; term: string };
  user?: string;
  env?: Readonly<Record<string, string>>;
}

/** A command that runs in the guest. Streams carry raw bytes and honour backpressure. */
export interface ExecSession {
  readonly transport: "ssh" | "agent";
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Ends at once with a tty, where both streams are one. */
  readonly stderr: Readable;
  /** 0..255; a command ended by a signal has 128 + its number, as a shell reports it. Rejects when the connection is lost. */
  readonly exit: Promise<number>;
  resize(columns: number, rows: number): void;
  /** `INT`, `TERM`, …: delivered to the command's process group. */
  signal(name: string): void;
  /** Ends the remote command, too. */
  close(): void;
}

/** One watcher of a machine's serial console. */
export interface ConsoleAttachment {
  /** Only one attachment writes at a time; the others watch. */
  readonly writable: boolean;
  readonly output: Readable;
  write(data: Uint8Array): void;
  /** Called when another attachment took the keyboard over, or the machine has stopped. */
  onEnd(listener: (reason: string) => void): void;
  close(): void;
}

export interface ConsoleOptions {
  /** `watch` never writes; `write` fails with CONSOLE_BUSY while another writes; `take` takes over. */
  mode: "watch" | "write" | "take";
  /** How much of what was printed before is replayed. */
  replayBytes?: number;
}

export interface LogOptions {
  source: "console" | "qemu";
  sinceMs?: number;
  tailLines?: number;
  follow?: boolean;
  signal?: AbortSignal;
}

/** A volume at an instant, and what its snapshot is to be called. */
export interface MarkedVolume {
  volume: string;
  /** `snap-` and 17 hexadecimal digits. */
  snapshot: string;
  name: string;
}

/**
 * The volumes that machines stand on, as skepd wires them in: served by storaged, over NBD on Unix sockets.
 * Every method starts storaged where it does not run.
 */
export interface VolumeAccess {
  /** VOLUME_NOT_FOUND. `attachedTo` is the machine that has it, as `Machines.machineOf` says. */
  resolve(
    nameOrId: string,
  ): Promise<{ id: string; name: string | null; sizeBytes: number; attachedTo: string | null }>;
  /**
   * Opens a volume and keeps it open, also over restarts of storaged, until `release`. Called again for the
   * same machine, it answers the same. `owner` may connect to the socket; null: only our own user.
   */
  serve(
    id: string,
    request: { machine: string; owner: { uid: number; gid: number } | null; everyWriteFua: boolean },
  ): Promise<{ socket: string; export: string; sizeBytes: number }>;
  /** Closes it. Nothing happens where it is not served, not there, or served for another machine. */
  release(id: string, machine: string): Promise<void>;
  /** An empty one; VOLUME_EXISTS where the name is taken. */
  create(request: { sizeBytes: number; name?: string }): Promise<{ id: string; sizeBytes: number }>;
  /** Without looking at who has it; VOLUME_NOT_FOUND, VOLUME_NEEDED, VOLUME_HAS_SNAPSHOTS. */
  remove(id: string): Promise<void>;
  /** Returns once storaged serves what it has to: from then on QEMU's requests are answered. */
  ready(signal?: AbortSignal): Promise<void>;
  /**
   * Keeps several at one instant: what their guests were answered before this returns, whatever their stores do where
   * they are served. `mark` is a new word. `complete` makes snapshots of them, of these ids; `abandon`, some minutes,
   * or the death of storaged give all of them up.
   */
  mark(mark: string, volumes: readonly MarkedVolume[], signal?: AbortSignal): Promise<void>;
  /** All of them, or none as far as their stores answer. MARK_UNKNOWN where they were given up. */
  complete(mark: string, signal?: AbortSignal): Promise<void>;
  abandon(mark: string): Promise<void>;
  /** Ids. */
  snapshotsOf(id: string): Promise<string[]>;
  /** SNAPSHOT_NEEDED while a clone needs it. Nothing happens where it is not there. */
  dropSnapshot(id: string, snapshot: string, signal?: AbortSignal): Promise<void>;
  /** Sets a volume that nothing runs on back to a snapshot of it: what was written since is given up. */
  revert(id: string, snapshot: string, signal?: AbortSignal): Promise<void>;
  /** A new volume of that id; `takesSnapshot`: the snapshot goes with the last such clone. VOLUME_EXISTS. */
  cloneSnapshot(request: {
    id: string;
    name?: string;
    source: { volume: string; snapshot: string };
    takesSnapshot: boolean;
  }): Promise<void>;
  /** Fills a new volume; it may be larger than the file's disk, and is not served meanwhile. */
  importImage(id: string, file: { path: string; format: "qcow2" | "raw" }, work: Work): Promise<void>;
}
