import { constants } from "node:os";
import { PassThrough, Readable, Writable } from "node:stream";
import type { ClientChannel } from "ssh2";
import { fail } from "./exec-errors.ts";
import { announcingCommand, checkCommand, endGroupScript, PidFilter, signalName } from "./exec-quote.ts";
import type { SshConnection } from "./ssh-connection.ts";
import type { ExecRequest, ExecSession } from "./types.ts";

const endPatienceSeconds = 3;
/** How long to wait for an announcement that a strange login shell may never make. */
const announcePatienceMs = 10_000;

/** What the terminal's driver turns into a signal for whoever is in front. */
const typedSignals: Record<string, string> = { INT: "\x03", QUIT: "\x1c", TSTP: "\x1a" };

/**
 * Runs a command over ssh. The command announces its process id, since servers refuse the protocol's
 * own signal request in too many cases (root's sessions, OpenSSH before 7.9, other servers).
 * Fails with EXEC_NOT_STARTED, SSH_LOST or SSH_REFUSED.
 */
export async function sshExec(connection: SshConnection, request: ExecRequest): Promise<ExecSession> {
  const { name } = connection.target;
  const { command, env, tty } = request;
  checkCommand(name, command, env);
  const plainLogin = command.length === 0 && Object.keys(env ?? {}).length === 0;
  const channel = await connection.session(plainLogin ? undefined : announcingCommand(command, env), tty);
  const pid = Promise.withResolvers<number | undefined>();
  const stdout = plainLogin ? new PassThrough() : new PidFilter(pid.resolve);
  channel.pipe(stdout);
  const exit = exitOf(channel, connection);
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
    const other = await connection.session(script(id), undefined);
    other.on("error", () => {}).resume();
    other.stderr.resume();
    other.end();
  };
  let closed = false;
  return {
    transport: "ssh",
    stdin: inputOf(channel),
    stdout,
    stderr: tty === undefined ? channel.stderr : Readable.from([]),
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

function exitOf(channel: ClientChannel, connection: SshConnection): Promise<number> {
  const exit = new Promise<number>((resolve, reject) => {
    channel.once("exit", (code: number | null, signal?: string) => {
      if (code !== null) return resolve(code & 0xff);
      const bare = `SIG${(signal ?? "").replace(/^SIG/, "")}` as keyof typeof constants.signals;
      resolve(128 + (constants.signals[bare] ?? 0));
    });
    channel.once("close", () => {
      const why = connection.lostBecause ?? "it ended without an exit status";
      reject(fail("SSH_LOST", { name: connection.target.name, why }));
    });
  });
  exit.catch(() => {}); // whoever wants to know awaits it; nobody has to
  return exit;
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
