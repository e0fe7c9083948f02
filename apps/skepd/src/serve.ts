import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ensureDirectory, skepHome, toSkepError } from "@skep/base";
import { parseListen } from "@skep/control";
import type { Logger } from "pino";
import { type DaemonOptions, startDaemon } from "./daemon.ts";
import { fail } from "./errors.ts";
import { createLog } from "./log.ts";
import { version } from "./version.ts";

interface Arguments {
  home: string;
  foreground: boolean;
  listen?: string;
}

export function readArguments(args: readonly string[]): Arguments {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        home: { type: "string" },
        listen: { type: "string" },
        foreground: { type: "boolean", default: false },
      },
    });
    if (values.listen !== undefined) parseListen(values.listen);
    return {
      home: skepHome(values.home === undefined ? process.env : { SKEP_HOME: values.home }),
      foreground: values.foreground,
      ...(values.listen === undefined ? {} : { listen: values.listen }),
    };
  } catch (error) {
    throw fail("ARGUMENT_INVALID", { why: (error as Error).message }, { cause: error });
  }
}

/** Runs skepd until it is told to end; the exit status says whether that went well. */
export async function serve(
  args: readonly string[],
  openEngines: DaemonOptions["openEngines"],
): Promise<void> {
  let log: Logger | undefined;
  try {
    const { home, foreground, listen } = readArguments(args);
    await ensureDirectory(home, 0o700);
    const daemonLog = createLog(home, foreground);
    log = daemonLog;
    endOnFault(daemonLog);
    const ended = endSignal();
    const daemon = await startDaemon({
      home,
      version,
      log: daemonLog,
      openEngines,
      ...(listen === undefined ? {} : { listen }),
    });
    setTimeout(collectGarbage, 1000).unref();
    const why = await Promise.race([ended, daemon.asked.then(() => "the API")]);
    daemonLog.info({ why }, "ending");
    await daemon.close();
    daemonLog.info("ended");
    process.exit(0);
  } catch (error) {
    const failure = toSkepError(error);
    log?.fatal({ err: error }, "cannot run");
    process.stderr.write(
      `skepd: ${failure.message}\n${failure.hint === undefined ? "" : `  ${failure.hint}\n`}`,
    );
    // 3 tells the CLI that another start has won the race for the lock
    process.exit(failure.code === "ARGUMENT_INVALID" ? 2 : failure.code === "DAEMON_RUNNING" ? 3 : 1);
  }
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
function endOnFault(log: Logger): void {
  const end = (error: unknown) => {
    log.fatal({ err: error }, "uncaught error");
    process.stderr.write(
      `skepd: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    process.exit(1);
  };
  process.on("uncaughtException", end);
  process.on("unhandledRejection", end);
}
