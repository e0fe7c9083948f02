import { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { SkepError, toSkepError } from "@skep/base";
import { type AgentExecStatus, type GuestAgent, QmpError } from "@skep/qmp";
import { agentStdin, startScript, workDirectories } from "./agent-exec-guest.ts";
import { fail } from "./exec-errors.ts";
import { checkCommand, endGroupScript, quote, signalName } from "./exec-quote.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

const shortestPollMs = 20;
const longestPollMs = 250;
const endPatienceSeconds = 3;
/** Time-outs in a row, of 10 s each, after which a guest counts as lost. */
const patience = 3;

interface Program {
  agent: GuestAgent;
  /** The machine. */
  name: string;
  pid: number;
  directory: string;
  stdin: number;
}

/**
 * Runs a command over the guest agent, for machines without ssh. Output goes to files in a directory
 * of its own in the guest and is read from there while the command runs; so it occupies memory or
 * disk of the guest until the end. Input is live, each piece at the cost of a program run in the guest.
 * The command runs as root unless a user is named. Fails with EXEC_NO_TTY, EXEC_NOT_STARTED, or as the
 * agent does.
 */
export async function agentExec(
  agent: GuestAgent,
  name: string,
  request: ExecRequest,
  signal?: AbortSignal,
): Promise<ExecSession> {
  if (request.tty !== undefined) throw fail("EXEC_NO_TTY", { name });
  checkCommand(name, request.command, request.env);
  const program = await start(agent, name, request, signal);
  const stdout = new Output(agent, `${program.directory}/out`);
  const stderr = new Output(agent, `${program.directory}/err`);
  const stdin = agentStdin(agent, program);
  const over = new AbortController();
  const exited = Promise.withResolvers<number>();
  exited.promise.catch(() => {}); // whoever wants to know awaits it; nobody has to
  void (async () => {
    try {
      await attend(program, [stdout, stderr], exited.resolve);
    } catch (error) {
      const why = toSkepError(error).message;
      exited.reject(fail("EXEC_LOST", { name, why }, { cause: error }));
    } finally {
      over.abort();
      stdin.destroy();
      for (const output of [stdout, stderr]) output.end();
      await cleanUp(program, [stdout, stderr]);
    }
  })();
  const inGuest = (script: string) => {
    if (over.signal.aborted) return;
    // A guest that does not answer shows in `exit`.
    agent.exec({ path: "/bin/sh", args: ["-c", script] }).catch(() => {});
  };
  let closed = false;
  return {
    transport: "agent",
    stdin,
    stdout: stdout.stream,
    stderr: stderr.stream,
    exit: exited.promise,
    resize() {},
    signal(given) {
      const known = signalName(given);
      if (known === undefined)
        throw fail("EXEC_NOT_STARTED", { name, command: "kill", why: `no signal ${given}` });
      inGuest(`kill -${known} -${program.pid}`);
    },
    close() {
      if (closed) return;
      closed = true;
      for (const output of [stdout, stderr]) output.discard();
      inGuest(endGroupScript(program.pid, endPatienceSeconds));
    },
  };
}

/** Gives the program once its files are there and its input is held open. */
async function start(
  agent: GuestAgent,
  name: string,
  request: ExecRequest,
  signal: AbortSignal | undefined,
): Promise<Program> {
  const id = crypto.randomUUID();
  const command = quote(request.command[0] ?? "a shell");
  const notStarted = (why: string, cause?: unknown) =>
    fail("EXEC_NOT_STARTED", { name, command, why }, { cause });
  let pid: number;
  try {
    pid = await agent.exec({ path: "/bin/sh", args: ["-c", startScript(id, request)] }, { signal });
  } catch (error) {
    if (error instanceof QmpError) throw notStarted(error.desc, error);
    throw error;
  }
  const early = async () => {
    const status = await agent.execStatus(pid, { signal });
    if (status.exited) throw notStarted(`no place for its output in ${workDirectories.join(" or ")}`);
  };
  for (let pollMs = shortestPollMs; ; pollMs = Math.min(longestPollMs, pollMs * 2)) {
    for (const parent of workDirectories) {
      const directory = `${parent}/skep-exec-${id}`;
      // Opened for both, an agent does not hang on a pipe that nobody else has opened.
      const stdin = await unlessMissing(agent.fileOpen(`${directory}/in`, "r+", { signal }));
      if (stdin !== undefined) return { agent, name, pid, directory, stdin };
    }
    await early();
    await sleep(pollMs, undefined, { signal });
  }
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof QmpError && /No such file/.test(error.desc)) return undefined;
    throw error;
  }
}

/** Reads what there is until the command has ended and all is read. */
async function attend(program: Program, outputs: Output[], onExit: (status: number) => void): Promise<void> {
  const { agent, pid } = program;
  let status: AgentExecStatus = { exited: false };
  let pollMs = shortestPollMs;
  let failures = 0;
  for (;;) {
    try {
      const exitedBefore = status.exited;
      let moved = false;
      for (const output of outputs) moved = (await output.advance()) || moved;
      if (exitedBefore && outputs.every((output) => output.done)) return;
      if (!status.exited) {
        status = await agent.execStatus(pid);
        if (status.exited) {
          onExit(status.exitCode ?? 128 + (status.signal ?? 0));
          for (const output of outputs) output.finish();
          continue;
        }
      }
      failures = 0;
      pollMs = moved ? shortestPollMs : Math.min(longestPollMs, pollMs * 1.5);
      if (moved) continue;
    } catch (error) {
      failures += 1;
      if (!(error instanceof SkepError) || error.code !== "AGENT_TIMEOUT" || failures >= patience)
        throw error;
      for (const output of outputs) output.mistrust();
    }
    await sleep(pollMs);
  }
}

async function cleanUp({ agent, directory, stdin }: Program, outputs: Output[]): Promise<void> {
  const handles = [stdin, ...outputs.flatMap((output) => output.handle ?? [])];
  try {
    // The input's handle may be closed already; the others matter all the same.
    for (const handle of handles) await agent.fileClose(handle).catch(ignoreRefusal);
    await agent.exec({ path: "/bin/sh", args: ["-c", `rm -rf ${directory}`] });
  } catch {
    // The guest does not answer any more. /run and /tmp are emptied when it boots.
  }
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof QmpError)) throw error;
}

/** One of the two output files, read as far as its reader wants. */
class Output {
  readonly stream: Readable;
  handle: number | undefined;
  done = false;
  readonly #agent: GuestAgent;
  readonly #path: string;
  #offset = 0;
  #seek = false;
  #full = false;
  #last = false;

  constructor(agent: GuestAgent, path: string) {
    this.#agent = agent;
    this.#path = path;
    const resume = () => {
      this.#full = false;
    };
    this.stream = new Readable({ read: resume, highWaterMark: 256 * 1024 });
    this.stream.on("error", () => {}).on("close", resume);
  }

  /** Reads the next piece, if there is one and the reader has room. True when something came. */
  async advance(): Promise<boolean> {
    if (this.#full || this.done) return false;
    this.handle ??= await unlessMissing(this.#agent.fileOpen(this.#path, "r"));
    if (this.handle === undefined) {
      this.done = this.#last;
      return false;
    }
    if (this.#seek) await this.#agent.fileSeek(this.handle, this.#offset);
    this.#seek = false;
    const { bytes, eof } = await this.#agent.fileRead(this.handle);
    this.#offset += bytes.length;
    if (eof && this.#last) this.done = true;
    if (bytes.length === 0) return false;
    if (!this.stream.destroyed && !this.stream.push(bytes)) this.#full = true;
    return true;
  }

  /** The command has ended: the next end of the file is the last. */
  finish(): void {
    this.#last = true;
  }

  /** A read got no answer, and the agent's position may have moved on. */
  mistrust(): void {
    this.#seek = true;
  }

  /** Nobody reads any more. */
  discard(): void {
    this.stream.resume();
  }

  end(): void {
    this.done = true;
    if (!this.stream.destroyed) this.stream.push(null);
  }
}
