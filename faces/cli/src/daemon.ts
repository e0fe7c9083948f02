import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { answers, controlSocket, daemonFile, launch, processStartTime, readFileIfThere } from "@skep/base";
import { fail } from "./errors.ts";

/** What skepd writes about itself beside its socket. */
export interface DaemonRecord {
  pid: number;
  version: string;
}

/** Who says that it is the home's skepd; undefined when nobody does, or it is gone. */
export async function readDaemonRecord(home: string): Promise<DaemonRecord | undefined> {
  try {
    const text = await readFileIfThere(daemonFile(home));
    const record = JSON.parse(text ?? "null") as DaemonRecord | null;
    if (record === null || typeof record.pid !== "number" || typeof record.version !== "string")
      return undefined;
    return process.platform === "linux" && processStartTime(record.pid) === undefined ? undefined : record;
  } catch {
    return undefined;
  }
}

/** What skepd prints before its own log begins, and its log. */
export function daemonLog(home: string): string {
  return join(home, "skepd.log");
}

/**
 * The command that runs skepd: `$SKEP_SKEPD`, or `skepd.js` beside the bundled CLI, or the app in the
 * source tree. The same runtime as the CLI's runs it.
 */
export function daemonCommand(environment: NodeJS.ProcessEnv = process.env): string[] {
  const named = environment.SKEP_SKEPD;
  const beside = ["./skepd.js", "../skepd.js"].map((path) => fileURLToPath(new URL(path, import.meta.url)));
  const inSource = fileURLToPath(new URL("../../../apps/skepd/src/main.ts", import.meta.url));
  const program = named ?? [...beside, inSource].find((path) => existsSync(path));
  if (program === undefined || !existsSync(program)) {
    throw fail("DAEMON_PROGRAM_MISSING", { path: program ?? beside[0] });
  }
  const conditions = program.endsWith(".ts") ? ["--conditions=skep-source"] : [];
  return [process.execPath, ...conditions, program];
}

export interface StartOptions {
  /** Told once, when skepd has to be started. */
  onStart?: (command: readonly string[]) => void;
  signal?: AbortSignal;
  timeoutMs?: number;
}

/** Sees that a skepd answers for `home`, and starts one when none does. */
export async function ensureDaemon(home: string, options: StartOptions = {}): Promise<{ started: boolean }> {
  const socket = controlSocket(home);
  if (await answers(socket)) return { started: false };
  const command = daemonCommand();
  options.onStart?.(command);
  await launch({
    ...options,
    program: "skepd",
    command,
    socket,
    logPath: daemonLog(home),
    environment: { ...process.env, SKEP_HOME: home },
  });
  return { started: true };
}
