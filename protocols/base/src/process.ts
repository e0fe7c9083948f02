import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { access, constants } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { fail, isErrno } from "./errors.ts";

export interface RunOptions {
  signal?: AbortSignal | undefined;
  /** Written to the command's standard input. */
  input?: string | Uint8Array;
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  uid?: number;
  gid?: number;
  /** Called with each whole line of standard error while the command runs. */
  onStderrLine?: (line: string) => void;
  /** Likewise of standard output, of which nothing is returned then. */
  onStdoutLine?: (line: string) => void;
  /** The command line that installs a missing command, for the error. */
  install?: string;
  /** Statuses that are no failure; default `[0]`. */
  okStatuses?: readonly number[];
}

export interface RunResult {
  status: number;
  stdout: string;
  stderr: string;
}

/**
 * Runs a command to its end, in its own process group, so that abortion ends what it started too.
 * Fails with COMMAND_MISSING, COMMAND_FAILED (with the end of its standard error) or CANCELLED.
 */
export async function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<RunResult> {
  options.signal?.throwIfAborted();
  const child = spawn(command, args, {
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
    env: options.env ?? { ...process.env, LC_ALL: "C.UTF-8" },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
  const ended = new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 143)));
  });
  // Without free file descriptors a child has no streams, whatever its type says; its error follows.
  if ((child.stdout as unknown) === undefined) await ended;
  const endGroup = (signal: NodeJS.Signals) => {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch (error) {
      if (!isErrno(error, "ESRCH")) throw error;
    }
  };
  let killTimer: NodeJS.Timeout | undefined;
  const onAbort = () => {
    endGroup("SIGTERM");
    killTimer = setTimeout(() => endGroup("SIGKILL"), 5000);
  };
  options.signal?.addEventListener("abort", onAbort, { once: true });
  let stdout = "";
  let stderr = "";
  const { onStderrLine, onStdoutLine } = options;
  const stderrLines = onStderrLine === undefined ? undefined : linesTo(onStderrLine);
  const stdoutLines = onStdoutLine === undefined ? undefined : linesTo(onStdoutLine);
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    if (stdoutLines === undefined) stdout += text;
    else stdoutLines(text);
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-65_536);
    stderrLines?.(text);
  });
  child.stdin.on("error", () => {}); // a command that does not read its input is no failure
  child.stdin.end(options.input ?? "");
  try {
    const status = await ended;
    options.signal?.throwIfAborted();
    if (!(options.okStatuses ?? [0]).includes(status)) {
      const end =
        stderr.trim().split("\n").slice(-12).join("\n") || stdout.trim().split("\n").slice(-4).join("\n");
      throw fail("COMMAND_FAILED", { command, status: `status ${status}`, stderr: end });
    }
    return { status, stdout, stderr };
  } catch (error) {
    if (options.signal?.aborted) throw fail("CANCELLED", {}, { cause: error });
    if (isErrno(error, "ENOENT")) {
      throw fail("COMMAND_MISSING", { command, install: options.install ?? "skep doctor names the package" });
    }
    throw error;
  } finally {
    options.signal?.removeEventListener("abort", onAbort);
    clearTimeout(killTimer);
  }
}

/** Gives whole lines on, those that end with a carriage return included. */
function linesTo(receive: (line: string) => void): (text: string) => void {
  let partial = "";
  return (text) => {
    const lines = (partial + text).split(/\r?\n|\r/);
    partial = lines.pop() ?? "";
    for (const line of lines) receive(line);
  };
}

/** The path of a command; a plain user's PATH lacks the sbin directories on Debian. */
export async function findCommand(command: string): Promise<string | undefined> {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/local/sbin", "/usr/sbin", "/sbin"];
  for (const folder of folders.filter((one) => one !== "")) {
    const path = join(folder, command);
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

/**
 * When a process started, in clock ticks since boot (Linux), so that a reused pid is told apart.
 * Undefined when it is gone or a zombie. Throws where that cannot be told: no file descriptor is free.
 */
export function processStartTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
  } catch (error) {
    if (isErrno(error, "EMFILE") || isErrno(error, "ENFILE")) throw error;
    return undefined;
  }
}

/** The arguments of a running process, or undefined when it is gone or not ours to see. */
export function processArguments(pid: number): string[] | undefined {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0").slice(0, -1);
  } catch {
    return undefined;
  }
}

/** Changes with every boot of the host. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "unknown";
  }
}
