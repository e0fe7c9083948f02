import { spawn } from "node:child_process";
import { open, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { dirname } from "node:path";
import { fail, isErrno } from "./errors.ts";
import { ensureDirectory } from "./files.ts";

/** Whether something listens on a Unix socket. */
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

/** How a daemon ends when another one holds its home's lock. */
const lockedStatus = 3;

export interface LaunchOptions {
  program: string;
  command: readonly string[];
  /** Answers when it is up. */
  socket: string;
  /** Takes its output, too. */
  logPath: string;
  environment: NodeJS.ProcessEnv;
  signal?: AbortSignal;
  timeoutMs?: number;
}

/**
 * Starts a daemon that outlives this process, and waits until it answers. Several callers at once are
 * fine: the daemon's lock lets one win, and all wait for the winner. DAEMON_DIED, DAEMON_SILENT.
 */
export async function launch(options: LaunchOptions): Promise<void> {
  const { program, logPath, socket } = options;
  const [file, ...args] = options.command as [string, ...string[]];
  await ensureDirectory(dirname(logPath));
  await using log = await open(logPath, "a", 0o600);
  const logStart = (await log.stat()).size;
  const child = spawn(file, args, {
    detached: true,
    stdio: ["ignore", log.fd, log.fd],
    cwd: "/",
    env: options.environment,
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
    if (await answers(socket)) return;
    if (ended !== undefined) {
      endedAt ??= performance.now();
      // The loser of a race for the lock ends at once: the winner is then on its way.
      const patienceMs = ended === `status ${lockedStatus}` ? 30_000 : 0;
      if (performance.now() - endedAt > patienceMs) {
        const last = await lastWords(logPath, logStart);
        throw fail("DAEMON_DIED", { program, status: ended, log: last, logPath });
      }
    } else if (performance.now() > deadline) {
      throw fail("DAEMON_SILENT", { program, pid: child.pid, socket, logPath });
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** What a daemon that died has said last: its plain words, or else the messages of its log. */
async function lastWords(path: string, fromByte: number): Promise<string> {
  const bytes = await readFile(path).catch(() => Buffer.alloc(0));
  const lines = bytes.subarray(Math.min(fromByte, bytes.length)).toString("utf8").trimEnd().split("\n");
  const plain = lines.filter((line) => line !== "" && !line.startsWith("{"));
  const logged = lines.flatMap((line) => /"msg":"([^"]*)"/.exec(line)?.[1] ?? []);
  const shown = (plain.length > 0 ? plain : logged).slice(-12);
  return shown.length === 0 ? "" : `:\n${shown.join("\n")}`;
}
