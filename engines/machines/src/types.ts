import type { Readable, Writable } from "node:stream";

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
