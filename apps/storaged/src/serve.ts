import { parseArgs } from "node:util";
import { parseDuration, skepHome } from "@skep/base";
import { argumentError, runDaemon } from "@skep/daemon";
import { storagePaths } from "./paths.ts";
import { type StoragedOptions, startStoraged } from "./storaged.ts";
import { version } from "./version.ts";

function readArguments(args: readonly string[]): { home: string; foreground: boolean } {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { home: { type: "string" }, foreground: { type: "boolean", default: false } },
    });
    return {
      home: skepHome(values.home === undefined ? process.env : { SKEP_HOME: values.home }),
      foreground: values.foreground,
    };
  } catch (error) {
    throw argumentError(error, "storaged [--home DIRECTORY] [--foreground]");
  }
}

/** Runs storaged until it is told to end. `$SKEP_LIFECYCLE_DAY` shortens the days of lifecycle rules. */
export function serve(args: readonly string[], openStore: StoragedOptions["openStore"]): Promise<void> {
  return runDaemon("storaged", () => {
    const { home, foreground } = readArguments(args);
    const day = process.env.SKEP_LIFECYCLE_DAY;
    const lifecycle = day === undefined ? {} : { lifecycleDayMs: parseDuration(day) };
    return {
      home,
      logPath: storagePaths(home).log,
      foreground,
      start: (log) => startStoraged({ home, version, log, openStore, ...lifecycle }),
    };
  });
}
