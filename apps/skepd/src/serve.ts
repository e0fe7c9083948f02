import { join } from "node:path";
import { parseArgs } from "node:util";
import { skepHome } from "@skep/base";
import { argumentError, parseListen, runDaemon } from "@skep/daemon";
import { type DaemonOptions, startDaemon } from "./daemon.ts";
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
    throw argumentError(error, "skepd [--home DIRECTORY] [--listen HOST:PORT] [--foreground]");
  }
}

/** Runs skepd until it is told to end; the exit status says whether that went well. */
export function serve(args: readonly string[], openEngines: DaemonOptions["openEngines"]): Promise<void> {
  return runDaemon("skepd", () => {
    const { home, foreground, listen } = readArguments(args);
    return {
      home,
      logPath: join(home, "skepd.log"),
      foreground,
      start: (log) =>
        startDaemon({ home, version, log, openEngines, ...(listen === undefined ? {} : { listen }) }),
    };
  });
}
