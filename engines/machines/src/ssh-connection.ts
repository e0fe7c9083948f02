import { connect, type Socket } from "node:net";
import type { Duplex } from "node:stream";
import { SkepError } from "@skep/base";
import type { Client, ClientChannel, ConnectConfig, ServerHostKeyAlgorithm } from "ssh2";
import { fail } from "./exec-errors.ts";
import { judgeHostKey, knownKeyTypes, recordHostKey } from "./ssh-known-hosts.ts";

export interface SshTarget {
  /** The machine. */
  name: string;
  host: string;
  port: number;
  user: string;
  /** OpenSSH or PEM text. */
  privateKey: string | Buffer;
  /** Where the machine's host keys are kept, in OpenSSH's format, as `<name>.skep`. */
  knownHosts: string;
  /** Given every socket that is opened to it. */
  onSocket?: ((socket: Socket) => void) | undefined;
}

export interface SshConnectOptions {
  signal?: AbortSignal | undefined;
  /** For the server's first words; QEMU's user network accepts before anybody is there. Default 15 000. */
  bannerTimeoutMs?: number;
  /** From the banner to the login; default 60 000, for emulated guests. */
  loginTimeoutMs?: number;
  onBanner?: () => void;
  onHandshake?: () => void;
}

/** One that keeps no connection to a guest that has gone or sleeps for long. */
const keepalive = { keepaliveInterval: 15_000, keepaliveCountMax: 8 };

/** OpenSSH's MaxSessions is 10; two are left for signals. */
const maxSessions = 8;

/** A login over ssh. */
export class SshConnection implements AsyncDisposable {
  readonly target: SshTarget;
  readonly #client: Client;
  #lostBecause: string | undefined;
  #sessions = 0;
  #channels = 0;
  readonly #idleMs: number;
  #idle: NodeJS.Timeout | undefined;
  readonly #onClose: (() => void)[] = [];

  private constructor(target: SshTarget, client: Client, idleMs: number) {
    this.target = target;
    this.#client = client;
    this.#idleMs = idleMs;
    this.#startIdle();
    client.on("error", (error) => {
      this.#lostBecause ??= error.message;
    });
    client.on("close", () => {
      this.#lostBecause ??= "it was closed";
      clearTimeout(this.#idle);
      for (const listener of this.#onClose) listener();
    });
  }

  /** Fails with SSH_UNREACHABLE, SSH_AUTH, SSH_HOST_KEY or CANCELLED. */
  static async open(
    target: SshTarget,
    idleMs: number,
    options: SshConnectOptions = {},
  ): Promise<SshConnection> {
    const { signal } = options;
    signal?.throwIfAborted();
    const [{ default: ssh2 }, known] = await Promise.all([
      import("ssh2"),
      knownKeyTypes(target.knownHosts, `${target.name}.skep`),
    ]);
    const client = new ssh2.Client();
    const socket = connect({ host: target.host, port: target.port, noDelay: true });
    target.onSocket?.(socket);
    return await new Promise<SshConnection>((resolve, reject) => {
      const { name, host, port, user, knownHosts } = target;
      let hostKey: Buffer | undefined;
      let handshake = false;
      let banner = false;
      const settle = (error: unknown, connection?: SshConnection) => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        if (connection !== undefined) return resolve(connection);
        client.removeAllListeners().on("error", () => {});
        client.destroy();
        socket.on("error", () => {}).destroy();
        reject(error);
      };
      const unreachable = (why: string, cause?: unknown) =>
        settle(fail("SSH_UNREACHABLE", { name, host, port, why }, { cause }));
      const onAbort = () =>
        settle(new SkepError("CANCELLED", "cancelled", { status: 499, cause: signal?.reason }));
      let timer = setTimeout(
        () => unreachable("its port accepts, but no server speaks"),
        options.bannerTimeoutMs ?? 15_000,
      );
      signal?.addEventListener("abort", onAbort, { once: true });
      client.once("handshake", () => {
        handshake = true;
        options.onHandshake?.();
      });
      client.once("ready", () => {
        const record =
          hostKey === undefined ? Promise.resolve() : recordHostKey(knownHosts, `${name}.skep`, hostKey);
        record.then(() => settle(undefined, new SshConnection(target, client, idleMs)), settle);
      });
      client.once("error", (error: Error & { level?: string }) => {
        if (error.level === "client-authentication")
          settle(fail("SSH_AUTH", { name, user }, { cause: error }));
        else unreachable(reasonOf(error, banner), error);
      });
      client.once("close", () =>
        unreachable(handshake ? "it closed during the login" : "it accepts and closes"),
      );
      const verify = async (key: Buffer) => {
        const verdict = await judgeHostKey(knownHosts, `${name}.skep`, key);
        if (verdict === "changed" || verdict === "revoked") {
          settle(fail("SSH_HOST_KEY", { name, path: knownHosts }));
          return false;
        }
        hostKey = key;
        return true;
      };
      client.connect({
        ...keepalive,
        sock: socket,
        username: user,
        privateKey: target.privateKey,
        readyTimeout: 0,
        hostVerifier: ((key: Buffer, done: (valid: boolean) => void) => {
          verify(key).then(done, settle);
        }) as ConnectConfig["hostVerifier"] & {},
        ...(known.length === 0 ? {} : { algorithms: { serverHostKey: preferred(known) } }),
      });
      socket.once("data", () => {
        banner = true;
        clearTimeout(timer);
        const limitMs = options.loginTimeoutMs ?? 60_000;
        timer = setTimeout(() => unreachable(`no login within ${limitMs} ms`), limitMs);
        options.onBanner?.();
      });
    });
  }

  /** False when it is lost, or has as many sessions as a server lets it have. */
  get hasRoom(): boolean {
    return this.#lostBecause === undefined && this.#sessions < maxSessions;
  }

  get lostBecause(): string | undefined {
    return this.#lostBecause;
  }

  onClose(listener: () => void): void {
    this.#onClose.push(listener);
  }

  /** Runs one line in the user's shell; with `shell` the login shell itself. */
  async session(
    line: string | undefined,
    tty: { columns: number; rows: number; term: string } | undefined,
  ): Promise<ClientChannel> {
    const pty =
      tty === undefined ? false : { cols: tty.columns, rows: tty.rows, term: tty.term, width: 0, height: 0 };
    this.#sessions += 1;
    try {
      const channel = await this.#open<ClientChannel>("a session", (done) =>
        line === undefined
          ? this.#client.shell(pty, {}, done)
          : this.#client.exec(line, pty === false ? {} : { pty }, done),
      );
      channel.once("close", () => {
        this.#sessions -= 1;
      });
      return channel;
    } catch (error) {
      this.#sessions -= 1;
      throw error;
    }
  }

  /** Connects from inside the guest to its own 127.0.0.1 (RFC 4254, section 7.2). */
  forward(port: number): Promise<Duplex> {
    return this.#open(`a connection to its port ${port}`, (done) =>
      this.#client.forwardOut("127.0.0.1", 0, "127.0.0.1", port, done),
    );
  }

  close(): void {
    this.#lostBecause ??= "it was closed here";
    this.#client.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  #open<C extends Duplex>(
    what: string,
    ask: (done: (error: Error | undefined, channel: C) => void) => unknown,
  ): Promise<C> {
    const { name } = this.target;
    if (this.#lostBecause !== undefined) throw fail("SSH_LOST", { name, why: this.#lostBecause });
    return new Promise((resolve, reject) => {
      const lost = () => reject(fail("SSH_LOST", { name, why: this.#lostBecause }));
      this.#onClose.push(lost);
      ask((error, channel) => {
        this.#onClose.splice(this.#onClose.indexOf(lost), 1);
        if (error) return reject(fail("SSH_REFUSED", { name, what, why: error.message }, { cause: error }));
        this.#hold(channel);
        resolve(channel);
      });
    });
  }

  #hold(channel: Duplex): void {
    this.#channels += 1;
    clearTimeout(this.#idle);
    channel.once("close", () => {
      this.#channels -= 1;
      if (this.#channels === 0 && this.#lostBecause === undefined) this.#startIdle();
    });
  }

  #startIdle(): void {
    this.#idle = setTimeout(() => this.#client.end(), this.#idleMs).unref();
  }
}

function reasonOf(error: Error & { code?: string }, banner: boolean): string {
  if (error.code === "ECONNREFUSED") return "nobody listens on the port";
  if (error.code === "ECONNRESET" && !banner) return "it accepts and closes";
  return error.message;
}

/** Known types first; a known RSA key also signs with SHA-2. */
function preferred(known: readonly string[]): ServerHostKeyAlgorithm[] {
  const all: ServerHostKeyAlgorithm[] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
  ];
  const isKnown = (one: string) => known.includes(one.startsWith("rsa-") ? "ssh-rsa" : one);
  return [...all.filter(isKnown), ...all.filter((one) => !isKnown(one))];
}
