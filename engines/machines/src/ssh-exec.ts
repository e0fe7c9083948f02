import { constants } from "node:os";
import { PassThrough, Readable, Transform, Writable } from "node:stream";
import type { ClientChannel } from "ssh2";
import { fail } from "./exec-errors.ts";
import {
  announcingCommand,
  checkCommand,
  endGroupScript,
  PidFilter,
  quote,
  signalName,
  sudo,
} from "./exec-quote.ts";
import type { SshConnection } from "./ssh-connection.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

const endPatienceSeconds = 3;
const maxReasonCharacters = 1000;
const maxHeldBytes = 256 * 1024;
/** How long to wait for an announcement that a strange login shell may never make. */
const announcePatienceMs = 10_000;

/** What the terminal's driver turns into a signal for whoever is in front. */
const typedSignals: Record<string, string> = { INT: "\x03", QUIT: "\x1c", TSTP: "\x1a" };

/**
 * Runs a command over ssh. The command announces its process id, since servers refuse the protocol's
 * own signal request in too many cases (root's sessions, OpenSSH before 7.9, other servers). Another
 * user than the connection's is reached by sudo.
 * Fails with EXEC_NOT_STARTED, SUDO_REFUSED, SSH_LOST or SSH_REFUSED.
 */
export async function sshExec(connection: SshConnection, request: ExecRequest): Promise<ExecSession> {
  const { name, user } = connection.target;
  const { command, env, tty } = request;
  const as = request.user === user ? undefined : request.user;
  checkCommand(name, as === undefined ? command : [...command, as], env);
  const plainLogin = as === undefined && command.length === 0 && Object.keys(env ?? {}).length === 0;
  const line = plainLogin ? undefined : announcingCommand(command, env, as);
  const channel = await connection.session(line, tty);
  const pid = Promise.withResolvers<number | undefined>();
  let announced = false;
  const beginning = new Beginning();
  const onPid = (id: number) => {
    announced = true;
    beginning.release();
    pid.resolve(id);
  };
  const stdout = plainLogin ? new PassThrough() : new PidFilter(onPid);
  channel.pipe(stdout);
  // What sudo says when it refuses goes into the error, and nowhere else.
  const errors = as === undefined ? channel.stderr : channel.stderr.pipe(beginning);
  let terminalText = "";
  if (as !== undefined && tty !== undefined) {
    channel.on("data", (bytes: Buffer) => {
      if (terminalText.length < maxReasonCharacters) terminalText += bytes.toString("utf8");
    });
  }
  const refused = () => {
    if (as === undefined || announced) return undefined;
    const why = (tty === undefined ? beginning.text : terminalText).slice(0, maxReasonCharacters).trim();
    return fail("SUDO_REFUSED", { name, user, as, why: why || "it said nothing" });
  };
  const exit = exitOf(channel, connection, refused);
  const ended = exit.then(
    () => true,
    () => true,
  );
  // A shell from the server announces nothing and goes with its terminal.
  void ended.then(() => pid.resolve(undefined));
  if (plainLogin) pid.resolve(undefined);
  channel.on("error", () => {});
  channel.once("close", () => stdout.end());

  const elsewhere = async (script: (pid: number) => string) => {
    const id = await pid.promise;
    if (id === undefined) return;
    const words = [...sudo(as), "sh", "-c", quote(script(id))]; // nobody else may signal another user's
    const other = await connection.session(as === undefined ? script(id) : words.join(" "), undefined);
    other.on("error", () => {}).resume();
    other.stderr.resume();
    other.end();
  };
  let closed = false;
  return {
    transport: "ssh",
    stdin: inputOf(channel),
    stdout,
    stderr: tty === undefined ? errors : Readable.from([]),
    exit,
    resize(columns, rows) {
      if (tty !== undefined) channel.setWindow(rows, columns, 0, 0);
    },
    signal(given) {
      const signal = signalName(given);
      if (signal === undefined)
        throw fail("EXEC_NOT_STARTED", { name, command: "kill", why: `no signal ${given}` });
      const typed = typedSignals[signal];
      if (tty !== undefined && typed !== undefined) channel.write(typed);
      else if (plainLogin) channel.signal(signal);
      else elsewhere((id) => `kill -${signal} -${id}`).catch(() => {}); // the connection is lost, and exit says so
    },
    close() {
      if (closed) return;
      closed = true;
      // First the kill: with the channel gone the announcement might never arrive.
      const killed = plainLogin
        ? Promise.resolve()
        : elsewhere((id) => endGroupScript(id, endPatienceSeconds));
      if (plainLogin) channel.signal("HUP");
      channel.end();
      channel.resume();
      const closeChannel = () => channel.close();
      const patience = setTimeout(closeChannel, announcePatienceMs).unref();
      killed
        .catch(() => {})
        .finally(() => {
          clearTimeout(patience);
          closeChannel();
        });
    },
  };
}

/** `refused`: why nothing ran, where that is known once all output has come. */
function exitOf(
  channel: ClientChannel,
  connection: SshConnection,
  refused: () => Error | undefined,
): Promise<number> {
  const exit = new Promise<number>((resolve, reject) => {
    let status: number | undefined;
    channel.once("exit", (code: number | null, signal?: string) => {
      const bare = `SIG${(signal ?? "").replace(/^SIG/, "")}` as keyof typeof constants.signals;
      status = code === null ? 128 + (constants.signals[bare] ?? 0) : code & 0xff;
      if (refused() === undefined) resolve(status);
    });
    channel.once("close", () => {
      const why = connection.lostBecause ?? "it ended without an exit status";
      if (status === undefined) return reject(fail("SSH_LOST", { name: connection.target.name, why }));
      const error = refused(); // the announcement may have come behind the status
      if (error === undefined) resolve(status);
      else reject(error);
    });
  });
  exit.catch(() => {}); // whoever wants to know awaits it; nobody has to
  return exit;
}

/** Holds a stream back until it is released; what never is, is dropped. */
class Beginning extends Transform {
  #held: Buffer | undefined = Buffer.alloc(0);

  get text(): string {
    return this.#held?.toString("utf8") ?? "";
  }

  release(): void {
    if (this.#held !== undefined && this.#held.length > 0) this.push(this.#held);
    this.#held = undefined;
  }

  override _transform(
    bytes: Buffer,
    _encoding: BufferEncoding,
    done: (error: null, out?: Buffer) => void,
  ): void {
    if (this.#held === undefined) done(null, bytes);
    else {
      this.#held = Buffer.concat([this.#held, bytes]);
      if (this.#held.length > maxHeldBytes) this.release();
      done(null);
    }
  }
}

/** The channel's input alone: ending it closes one half, destroying it does not touch the output. */
function inputOf(channel: ClientChannel): Writable {
  const stdin = new Writable({
    write(bytes: Buffer, _encoding, done) {
      if (!channel.writable) return done(); // the command has ended; what it did not read is lost, as in a pipe
      if (channel.write(bytes)) return done();
      const settle = () => {
        channel.removeListener("drain", settle).removeListener("close", settle);
        done();
      };
      channel.once("drain", settle).once("close", settle);
    },
    final(done) {
      if (channel.writable) channel.end();
      done();
    },
  });
  stdin.on("error", () => {});
  return stdin;
}
