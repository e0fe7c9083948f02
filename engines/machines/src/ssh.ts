import { readFile } from "node:fs/promises";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { SkepError } from "@skep/base";
import { fail } from "./exec-errors.ts";
import { SshConnection, type SshConnectOptions, type SshTarget } from "./ssh-connection.ts";
import type { Uses } from "./uses.ts";

/** What ssh needs to know of a machine. */
export interface SshGuest {
  readonly name: string;
  readonly file: { readonly ssh: boolean; readonly user: string };
  readonly paths: { readonly knownHosts: string };
  readonly context: { ownKeys(): Promise<{ path: string }> };
  /** Told of each connection, which is none of a user. */
  readonly uses?: Uses;
  sshPort(): { host: string; port: number } | undefined;
}

const defaultIdleMs = 5 * 60_000;
/** While nobody speaks, another attempt starts each so often… */
const staggerMs = 1000;
/** …and as many may be under way: QEMU's network holds an early one for longer than the guest needs. */
const maxAttempts = 4;
/** The pause after one that failed at once, as while the guest refuses. */
const retryMs = 200;

/**
 * The ssh connections of all machines. A handshake costs an emulated guest seconds, so one connection
 * a machine and user is kept for the next command, and closed after a few idle minutes.
 */
export class SshConnections implements AsyncDisposable {
  readonly #idleMs: number;
  readonly #open = new Map<string, SshConnection[]>();
  readonly #opening = new Map<string, Promise<SshConnection>>();

  constructor(options: { idleMs?: number } = {}) {
    this.#idleMs = options.idleMs ?? defaultIdleMs;
  }

  /** A connection with room for a session. Fails with SSH_ABSENT, SSH_UNREACHABLE, SSH_AUTH, SSH_HOST_KEY, CANCELLED. */
  async connect(
    guest: SshGuest,
    options: { user?: string | undefined } & SshConnectOptions = {},
  ): Promise<SshConnection> {
    const target = await this.#target(guest, options.user ?? guest.file.user);
    const key = keyOf(target);
    const free = this.#open.get(key)?.find((one) => one.hasRoom && isSame(one.target, target));
    if (free !== undefined) return free;
    const shared = this.#opening.get(key);
    if (shared !== undefined && options.signal === undefined) return await shared;
    const opening = SshConnection.open(target, this.#idleMs, options).then((connection) => {
      this.#keep(key, connection);
      return connection;
    });
    this.#opening.set(key, opening);
    try {
      return await opening;
    } finally {
      if (this.#opening.get(key) === opening) this.#opening.delete(key);
    }
  }

  /**
   * Ends when an ssh handshake was completed, which an open port does not mean. The login itself may
   * be refused and the server has answered nevertheless; which of both is told. Goes on until the
   * signal; fails with SSH_HOST_KEY at once, since waiting does not mend it.
   */
  async waitForHandshake(guest: SshGuest, signal: AbortSignal): Promise<"accepted" | "denied"> {
    const over = new AbortController();
    const stop = AbortSignal.any([signal, over.signal]);
    const answer = Promise.withResolvers<"accepted" | "denied">();
    const silent = new Set<AbortController>();
    let underWay = 0;
    let spoken = 0;
    let count = 0;
    let failed: SkepError | undefined;
    const attempt = async () => {
      const mine = new AbortController();
      let spoke = false;
      silent.add(mine);
      underWay += 1;
      count += 1;
      try {
        await this.connect(guest, {
          signal: AbortSignal.any([stop, mine.signal]),
          bannerTimeoutMs: Math.min(60_000, 10_000 + count * 500),
          onBanner: () => {
            spoke = true;
            spoken += 1;
            silent.delete(mine);
            // Attempts beside one that is being answered would only slow the guest down.
            for (const other of silent) other.abort();
          },
        });
        answer.resolve("accepted");
      } catch (error) {
        const code = error instanceof SkepError ? error.code : undefined;
        if (code === "SSH_AUTH") answer.resolve("denied");
        else if (code === "SSH_UNREACHABLE" || code === "SSH_ABSENT") failed = error as SkepError;
        else if (!mine.signal.aborted) answer.reject(error);
      } finally {
        silent.delete(mine);
        underWay -= 1;
        if (spoke) spoken -= 1;
      }
    };
    const nap = (ms: number) => sleep(ms, undefined, { signal: stop }).catch(() => {});
    const keepTrying = async () => {
      while (!stop.aborted) {
        if (spoken > 0 || underWay >= maxAttempts) await nap(retryMs);
        else await Promise.race([nap(staggerMs), attempt().then(() => nap(retryMs))]);
      }
    };
    const onAbort = () =>
      answer.reject(new SkepError("CANCELLED", "cancelled", { status: 499, cause: failed ?? signal.reason }));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    void keepTrying();
    try {
      return await answer.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
      over.abort();
    }
  }

  /** A connection to 127.0.0.1:`port` as the guest sees it. */
  async forward(guest: SshGuest, port: number, options: SshConnectOptions = {}): Promise<Duplex> {
    return await (await this.connect(guest, options)).forward(port);
  }

  /** Closes what is open to a machine, for it has stopped or is removed. */
  drop(name: string): void {
    for (const [key, connections] of this.#open) {
      if (key.startsWith(`${name}\0`)) for (const connection of [...connections]) connection.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const connections of [...this.#open.values()]) for (const one of [...connections]) one.close();
  }

  #keep(key: string, connection: SshConnection): void {
    const connections = this.#open.get(key) ?? [];
    this.#open.set(key, [...connections, connection]);
    connection.onClose(() => {
      const left = (this.#open.get(key) ?? []).filter((one) => one !== connection);
      if (left.length === 0) this.#open.delete(key);
      else this.#open.set(key, left);
    });
  }

  async #target(guest: SshGuest, user: string): Promise<SshTarget> {
    const address = guest.file.ssh ? guest.sshPort() : undefined;
    if (address === undefined) {
      const why = guest.file.ssh ? "its port 22 is not forwarded" : "it has no ssh server";
      throw fail("SSH_ABSENT", { name: guest.name, why });
    }
    const privateKey = await readFile((await guest.context.ownKeys()).path);
    const { name, uses, paths } = guest;
    const onSocket = (socket: Socket) => uses?.ownConnection(socket, address);
    return { name, ...address, user, privateKey, knownHosts: paths.knownHosts, onSocket };
  }
}

function keyOf({ name, user }: SshTarget): string {
  return `${name}\0${user}`;
}

function isSame(a: SshTarget, b: SshTarget): boolean {
  return a.host === b.host && a.port === b.port && a.knownHosts === b.knownHosts;
}
