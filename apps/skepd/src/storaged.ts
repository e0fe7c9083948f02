import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers, launch, processStartTime, readFileIfThere, storageFile, storageSocket } from "@skep/base";
import {
  callJson,
  type JsonCall,
  passingBytesEnvironment,
  passingBytesFlags,
  streamJson,
  watchEnd,
} from "@skep/daemon";
import type { Logger } from "pino";
import { fail } from "./errors.ts";

const firstRetryMs = 100;
const longestRetryMs = 30_000;
/** Whoever lives this long has started well: the next death is the first again. */
const settledMs = 60_000;

/** What became of storaged lately, for doctor. */
export interface Deaths {
  count: number;
  lastAt: string;
  /** Why it could not be started again, where it could not. */
  problem: string | null;
}

/**
 * storaged as skepd sees it: started where it is needed, adopted where it runs already, and started
 * again when it dies while it is wanted. It is nobody's child: the death of either harms the other not.
 */
export class Storaged implements AsyncDisposable {
  readonly #home: string;
  readonly #log: Logger;
  readonly #ending = new AbortController();
  #starting: Promise<void> | undefined;
  /** Until it is aborted, storaged is wanted. */
  #watch: { ended: Promise<void>; abort: AbortController } | undefined;
  #deaths: Deaths | undefined;

  constructor(home: string, log: Logger) {
    this.#home = home;
    this.#log = log;
  }

  get socket(): string {
    return storageSocket(this.#home);
  }

  get deaths(): Deaths | undefined {
    return this.#deaths;
  }

  runs(): Promise<boolean> {
    return answers(this.socket);
  }

  /** Its pid where it runs; undefined where the record is of an earlier process. */
  async pid(): Promise<number | undefined> {
    try {
      const record = JSON.parse((await readFileIfThere(storageFile(this.#home))) ?? "null");
      const { pid, startTime } = record as { pid: number; startTime?: string };
      return processStartTime(pid) === startTime ? pid : undefined;
    } catch {
      return undefined; // no record
    }
  }

  /** Keeps it running from now on, whoever started it. Throws where it cannot be started. */
  async start(): Promise<void> {
    if (this.#watch === undefined || !(await this.runs())) await this.#launchOnce();
    this.keep();
  }

  /**
   * One launch at a time, whoever asks: a second process would wait for the first one's lock, and serve
   * when that one is told to end.
   */
  #launchOnce(): Promise<void> {
    this.#starting ??= this.#launch(this.#ending.signal).finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  /** As `start`, in the background: goes on trying when it cannot be started. */
  keep(): void {
    if (this.#watch !== undefined || this.#ending.signal.aborted) return;
    const abort = new AbortController();
    this.#watch = { abort, ended: this.#keepRunning(abort.signal) };
  }

  async #release(): Promise<void> {
    const watch = this.#watch;
    this.#watch = undefined;
    watch?.abort.abort();
    await watch?.ended;
  }

  /** Lets it end, and ends it once what is under way has ended. */
  async stop(): Promise<void> {
    await this.#release();
    await this.#starting?.catch(() => undefined);
    const pid = await this.pid();
    if (!(await this.runs())) return;
    const started = pid === undefined ? undefined : processStartTime(pid);
    await this.call({ method: "POST", path: "/shutdown" });
    while (pid === undefined ? await this.runs() : processStartTime(pid) === started) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    this.#deaths = undefined;
  }

  /** Asks it; it has to run. */
  call<T>(call: JsonCall): Promise<T> {
    return callJson<T>(this.socket, call);
  }

  /** As `call`, for what answers bit by bit. */
  stream<T>(call: JsonCall): AsyncGenerator<T, void, void> {
    return streamJson<T>(this.socket, call);
  }

  async #launch(signal: AbortSignal): Promise<void> {
    if (await this.runs()) return;
    const command = storagedCommand();
    this.#log.info({ command }, "starting storaged");
    await launch({
      program: "storaged",
      command,
      socket: this.socket,
      logPath: join(this.#home, "storaged.log"),
      environment: { ...process.env, ...passingBytesEnvironment, SKEP_HOME: this.#home },
      signal,
    });
  }

  /** Waits for its death, starts it again, and later each time that does not help. */
  async #keepRunning(signal: AbortSignal): Promise<void> {
    let waitMs = firstRetryMs;
    while (!signal.aborted) {
      const since = performance.now();
      try {
        await this.#launchOnce();
        if (signal.aborted) return;
        if (this.#deaths !== undefined) this.#deaths.problem = null;
        await watchEnd(this.socket, signal);
        if (signal.aborted) return;
        this.#log.error("storaged has ended unasked; starting it again");
        this.#died(null);
      } catch (error) {
        if (signal.aborted) return;
        this.#log.error({ err: error }, "cannot start storaged; trying again");
        this.#died((error as Error).message);
      }
      if (performance.now() - since > settledMs) waitMs = firstRetryMs;
      await pause(waitMs, signal);
      waitMs = Math.min(waitMs * 2, longestRetryMs);
    }
  }

  #died(problem: string | null): void {
    const count = (this.#deaths?.count ?? 0) + 1;
    this.#deaths = { count, lastAt: new Date().toISOString(), problem };
  }

  /** Ends the watch only. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#release();
  }
}

function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", done, { once: true });
  });
}

/**
 * The command that runs storaged: `$SKEP_STORAGED`, or `storaged.js` beside the bundled skepd, or the app
 * in the source tree.
 */
function storagedCommand(environment: NodeJS.ProcessEnv = process.env): string[] {
  const beside = fileURLToPath(new URL("./storaged.js", import.meta.url));
  const inSource = fileURLToPath(new URL("../../storaged/src/main.ts", import.meta.url));
  const program = environment.SKEP_STORAGED ?? [beside, inSource].find((path) => existsSync(path));
  if (program === undefined || !existsSync(program)) {
    throw fail("STORAGED_PROGRAM_MISSING", { path: program ?? beside });
  }
  const conditions = program.endsWith(".ts") ? ["--conditions=skep-source"] : [];
  return [process.execPath, ...passingBytesFlags, ...conditions, program];
}
