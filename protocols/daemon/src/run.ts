import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ensureDirectory, type SkepError, toSkepError } from "@skep/base";
import type { Logger } from "pino";
import { fail } from "./errors.ts";
import { createLog } from "./log.ts";

/** What runs until it is told to end. */
export interface Running {
  /** Resolves when somebody asked for the end over its API. */
  readonly asked: Promise<void>;
  close(): Promise<void>;
}

export interface RunOptions {
  home: string;
  logPath: string;
  /** Also to standard error. */
  foreground: boolean;
  start(log: Logger): Promise<Running>;
}

/** Runs a daemon until it is told to end; the exit status says whether that went well. Does not return. */
export async function runDaemon(program: string, prepare: () => RunOptions): Promise<void> {
  let log: Logger | undefined;
  try {
    const options = prepare();
    await ensureDirectory(options.home, 0o700);
    log = createLog(options.logPath, options.foreground);
    endOnFault(program, log);
    const ended = endSignal();
    const running = await options.start(log);
    setTimeout(collectGarbage, 1000).unref();
    const why = await Promise.race([ended, running.asked.then(() => "the API")]);
    log.info({ why }, "ending");
    await running.close();
    log.info("ended");
    process.exit(0);
  } catch (error) {
    const failure = toSkepError(error);
    log?.fatal({ err: error }, "cannot run");
    process.stderr.write(
      `${program}: ${failure.message}\n${failure.hint === undefined ? "" : `  ${failure.hint}\n`}`,
    );
    process.exit(exitStatus(failure));
  }
}

/** What is wrong with the command line of a daemon; it ends with status 2. */
export function argumentError(error: unknown, usage: string): SkepError {
  return fail("ARGUMENT_INVALID", { why: (error as Error).message, usage }, { cause: error });
}

/** 3 tells whoever started it that another start has won the race for the lock. */
function exitStatus({ code }: SkepError): number {
  if (code === "ARGUMENT_INVALID") return 2;
  return code === "DAEMON_RUNNING" ? 3 : 1;
}

/** Start-up leaves garbage that an idle process would keep for good: a tenth of its resident memory. */
function collectGarbage(): void {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

/** The first SIGTERM, SIGINT or SIGHUP; a second one ends the process at once. */
function endSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) {
      process.once(signal, () => resolve(signal));
    }
  });
}

/** An error that nobody caught leaves unknown state behind: say it and end; the next start recovers. */
function endOnFault(program: string, log: Logger): void {
  const end = (error: unknown) => {
    log.fatal({ err: error }, "uncaught error");
    process.stderr.write(
      `${program}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exit(1);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
