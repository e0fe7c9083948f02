import { connect, type Socket } from "node:net";
import type { Readable } from "node:stream";
import type { ConsoleLog } from "./console-log.ts";
import { ConsoleScripts } from "./console-scripts.ts";
import { ConsoleWatcher } from "./console-watcher.ts";
import { fail } from "./exec-errors.ts";
import type { ConsoleAttachment, ConsoleOptions } from "./types.ts";

/** How much printed output is kept in memory for those who attach later. */
const replayLimitBytes = 64 * 1024;
/** Keystrokes that a guest which does not read may leave waiting. */
const maxWaitingInputBytes = 1024 * 1024;

export interface ConsolePaths {
  /** The machine, for errors. */
  name: string;
  /** QEMU's end of the serial port. */
  serialSocket: string;
  /** Where scripts connect: `nc -U`. */
  scriptSocket: string;
  log: ConsoleLog;
}

/** One that takes part without being the keyboard: a script, a telnet client. */
export interface ConsoleParticipant {
  readonly output: Readable;
  /** False when the guest is slow to read: better wait for `onceWritable`. */
  write(data: Uint8Array): boolean;
  onceWritable(listener: () => void): void;
  close(): void;
}

interface Keyboard {
  end(reason: string): void;
}

/**
 * The serial console of one running machine. QEMU's socket takes one client, and skepd is it; this
 * hands output to all who watch and lets one person write, and scripts beside.
 */
export class Console implements AsyncDisposable {
  readonly name: string;
  readonly #paths: ConsolePaths;
  readonly #log: ConsoleLog;
  readonly #watchers = new Set<{ watcher: ConsoleWatcher; end(reason: string): void }>();
  #serial: Socket | undefined;
  #scripts: ConsoleScripts | undefined;
  #keyboard: Keyboard | undefined;
  #recent: Buffer[] = [];
  #recentBytes = 0;
  #closedBecause = "it was not opened yet";

  constructor(paths: ConsolePaths) {
    this.name = paths.name;
    this.#paths = paths;
    this.#log = paths.log;
  }

  /** Connects to a QEMU that has just been started or was found running. */
  async open(): Promise<void> {
    if (this.#serial !== undefined) return;
    const recent = await this.#log.tail(replayLimitBytes);
    this.#recent = recent.length > 0 ? [recent] : [];
    this.#recentBytes = recent.length;
    const serial = await connectSerial(this.#paths.serialSocket).catch((error: Error) => {
      throw fail("CONSOLE_CLOSED", { name: this.name, why: error.message }, { cause: error });
    });
    this.#serial = serial;
    serial.on("error", () => {}); // what is left to say, close says
    serial.on("close", () => {
      if (this.#serial === serial) void this.close("the machine has stopped");
    });
    serial.on("data", (bytes: Buffer) => this.#print(bytes));
    try {
      this.#scripts = await ConsoleScripts.listen(this, this.#paths.scriptSocket);
    } catch (error) {
      await this.close("its socket could not be opened");
      throw error;
    }
  }

  /** Ends all attachments with the reason. The console may be opened again. */
  async close(reason: string): Promise<void> {
    const serial = this.#serial;
    if (serial === undefined) return;
    this.#serial = undefined;
    this.#closedBecause = reason;
    serial.destroy();
    for (const { end } of [...this.#watchers]) end(reason);
    this.#keyboard = undefined;
    const scripts = this.#scripts;
    this.#scripts = undefined;
    await scripts?.close();
  }

  /** Whether anybody looks on: a person, a script or a telnet client. */
  get isWatched(): boolean {
    return this.#watchers.size > 0;
  }

  /** Fails with CONSOLE_BUSY or CONSOLE_CLOSED. */
  async attach(options: ConsoleOptions): Promise<ConsoleAttachment> {
    this.#checkOpen();
    const writable = options.mode !== "watch";
    if (writable && this.#keyboard !== undefined) {
      if (options.mode === "write") throw fail("CONSOLE_BUSY", { name: this.name });
      this.#keyboard.end("another console took over the keyboard");
    }
    const listeners: ((reason: string) => void)[] = [];
    let endedBecause: string | undefined;
    const finish = this.#watch(options.replayBytes ?? 0, (reason) => end(reason));
    const end = (reason: string | undefined) => {
      if (endedBecause !== undefined) return;
      endedBecause = reason ?? "it was closed";
      finish.close();
      if (this.#keyboard === keyboard) this.#keyboard = undefined;
      if (reason !== undefined) for (const listener of listeners) listener(reason);
    };
    const keyboard: Keyboard = { end };
    if (writable) this.#keyboard = keyboard;
    return {
      writable,
      output: finish.output,
      write: (data) => {
        if (writable && endedBecause === undefined) this.#type(data);
      },
      onEnd(listener) {
        if (endedBecause === undefined) listeners.push(listener);
        else listener(endedBecause);
      },
      close: () => end(undefined),
    };
  }

  /** Takes part beside whoever holds the keyboard. Its output ends when the console closes. */
  join(): ConsoleParticipant {
    this.#checkOpen();
    const { output, close } = this.#watch(0, () => close());
    return {
      output,
      close,
      write: (data) => this.#type(data),
      onceWritable: (listener) => {
        if (this.#serial === undefined || !this.#serial.writableNeedDrain) setImmediate(listener);
        else this.#serial.once("drain", listener);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close("it was closed");
  }

  #checkOpen(): void {
    if (this.#serial === undefined)
      throw fail("CONSOLE_CLOSED", { name: this.name, why: this.#closedBecause });
  }

  #watch(replayBytes: number, end: (reason: string) => void): { output: Readable; close(): void } {
    const watcher = new ConsoleWatcher();
    const seat = { watcher, end };
    if (replayBytes > 0) {
      const recent = Buffer.concat(this.#recent, this.#recentBytes);
      watcher.push(withoutQueries(recent.subarray(-Math.min(replayBytes, recent.length))));
    }
    const close = () => {
      this.#watchers.delete(seat);
      watcher.end();
    };
    this.#watchers.add(seat);
    watcher.output.once("close", () => this.#watchers.delete(seat));
    return { output: watcher.output, close };
  }

  #type(data: Uint8Array): boolean {
    const serial = this.#serial;
    if (serial === undefined) return true;
    // As on a real serial line, what overruns a guest that does not listen is lost.
    if (serial.writableLength + data.length > maxWaitingInputBytes) return false;
    return serial.write(data);
  }

  #print(bytes: Buffer): void {
    this.#log.noteOutput(bytes.length);
    this.#recent.push(bytes);
    this.#recentBytes += bytes.length;
    if (this.#recentBytes > 2 * replayLimitBytes) {
      // Copied, so that no large buffer lives on for the sake of its end.
      this.#recent = [Buffer.from(Buffer.concat(this.#recent).subarray(-replayLimitBytes))];
      this.#recentBytes = replayLimitBytes;
    }
    for (const { watcher } of this.#watchers) watcher.push(bytes);
  }
}

/** Questions to a terminal of the past (cursor position, its kind) would be answered now, as if typed. */
function withoutQueries(bytes: Buffer): Buffer {
  return Buffer.from(bytes.toString("latin1").replace(/\x1b\[[?>=]?[0-9;]*[nc]/g, ""), "latin1");
}

function connectSerial(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    socket.once("error", reject);
    socket.once("connect", () => {
      socket.removeListener("error", reject);
      resolve(socket);
    });
  });
}
