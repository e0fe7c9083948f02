import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  controlSocket,
  daemonFile,
  ensureDirectory,
  isErrno,
  processStartTime,
  readFileIfThere,
} from "@skep/base";
import { fail } from "./errors.ts";

/** What skepd writes about itself beside its socket. */
export interface DaemonRecord {
  pid: number;
  version: string;
}

/** Whether something answers on the control socket. */
export function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error) => {
      socket.destroy();
      // EAGAIN: its queue is full, so somebody listens
      if (isErrno(error, "EAGAIN")) resolve(true);
      else if (isErrno(error, "ENOENT") || isErrno(error, "ECONNREFUSED") || isErrno(error, "ENOTDIR"))
        resolve(false);
      else reject(error);
    });
  });
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

/** What a skepd that died has said last: its plain words, or else the messages of its log. */
async function lastWords(path: string, fromByte: number): Promise<string> {
  const bytes = await readFile(path).catch(() => Buffer.alloc(0));
  const lines = bytes.subarray(Math.min(fromByte, bytes.length)).toString("utf8").trimEnd().split("\n");
  const plain = lines.filter((line) => line !== "" && !line.startsWith("{"));
  const logged = lines.flatMap((line) => /"msg":"([^"]*)"/.exec(line)?.[1] ?? []);
  const shown = (plain.length > 0 ? plain : logged).slice(-12);
  return shown.length === 0 ? "" : `:\n${shown.join("\n")}`;
}

/** How skepd ends when another one holds the home's lock. */
const lockedStatus = 3;

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

export interface StartOptions {
  /** Told once, when skepd has to be started. */
  onStart?: (command: readonly string[]) => void;
  signal?: AbortSignal;
  timeoutMs?: number;
}

/**
 * Sees that a skepd answers for `home`, and starts one when none does. Several callers at once are
 * fine: skepd's lock lets one win, and all wait for the winner.
 */
export async function ensureDaemon(home: string, options: StartOptions = {}): Promise<{ started: boolean }> {
  const socketPath = controlSocket(home);
  if (await answers(socketPath)) return { started: false };
  const [program, ...args] = daemonCommand() as [string, ...string[]];
  options.onStart?.([program, ...args]);
  await ensureDirectory(home);
  const logPath = daemonLog(home);
  await using log = await open(logPath, "a", 0o600);
  const logStart = (await log.stat()).size;
  const child = spawn(program, args, {
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    cwd: "/",
    env: { ...process.env, SKEP_HOME: home },
  });
  let ended: string | undefined;
  child.once("error", (error) => {
    ended = error.message;
  });
  child.once("exit", (code, signal) => {
    ended = signal === null ? `status ${code}` : signal;
  });
  child.unref();
  const deadline = performance.now() + (options.timeoutMs ?? 60_000);
  let endedAt: number | undefined;
  for (let wait = 10; ; wait = Math.min(100, wait * 1.5)) {
    options.signal?.throwIfAborted();
    if (await answers(socketPath)) return { started: true };
    if (ended !== undefined) {
      endedAt ??= performance.now();
      // The loser of a race for the lock ends at once: the winner is then on its way.
      const patienceMs = ended === `status ${lockedStatus}` ? 30_000 : 0;
      if (performance.now() - endedAt > patienceMs) {
        throw fail("DAEMON_DIED", { status: ended, log: await lastWords(logPath, logStart), logPath });
      }
    } else if (performance.now() > deadline) {
      throw fail("DAEMON_SILENT", { pid: child.pid, socket: socketPath });
    }
    await pause(wait);
  }
}
