import { closeSync, fstatSync, openSync, renameSync, writeSync } from "node:fs";
import { type Logger, pino } from "pino";

const limitBytes = 10 * 1024 * 1024;

/**
 * A file of lines, written at once so that the last words of a crash are there. At its limit, 10 MiB,
 * it moves aside as `NAME.1`, and the one before is dropped.
 */
export class LogFile {
  readonly #path: string;
  readonly #limit: number;
  #file: number;
  #size: number;

  constructor(path: string, limit = limitBytes) {
    this.#path = path;
    this.#limit = limit;
    this.#file = openSync(this.#path, "a", 0o600);
    this.#size = fstatSync(this.#file).size;
  }

  write(line: string): void {
    try {
      if (this.#size + line.length > this.#limit) this.#rotate();
    } catch {
      // the file cannot be moved aside: better a longer one
    }
    try {
      this.#size += writeSync(this.#file, line);
    } catch {
      // A full disk must not end the daemon; there is nowhere to say so.
    }
  }

  /** Nothing may be written afterwards. */
  close(): void {
    closeSync(this.#file);
  }

  #rotate(): void {
    this.#size = 0; // where it fails, this file goes on as if it had been moved aside
    renameSync(this.#path, `${this.#path}.1`);
    const before = this.#file;
    this.#file = openSync(this.#path, "a", 0o600);
    closeSync(before);
  }
}

/** Lines of JSON to a file, and in the foreground to standard error as well. */
export function createLog(path: string, foreground: boolean): Logger {
  const file = new LogFile(path);
  // Where standard error leads to a full disk, or to nobody, the daemon lives on.
  if (foreground) process.stderr.on("error", () => {});
  const stream = {
    write(line: string) {
      file.write(line);
      if (foreground) process.stderr.write(line);
    },
  };
  const level = process.env.SKEP_LOG_LEVEL ?? "info";
  const known = ["trace", "debug", "info", "warn", "error", "fatal", "silent"].includes(level);
  return pino(
    { level: known ? level : "info", base: null, timestamp: pino.stdTimeFunctions.isoTime },
    stream,
  );
}
