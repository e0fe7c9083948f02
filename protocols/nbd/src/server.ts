import { chmod, chown, rm } from "node:fs/promises";
import { createServer, isIP, type Server, type Socket } from "node:net";
import { isMainThread } from "node:worker_threads";
import { answers, isErrno } from "@skep/base";
import type { Export } from "./device.ts";
import { ConnectionEnded, fail, reasonOf } from "./errors.ts";
import { isPowerOfTwo } from "./handshake-codec.ts";
import { isExportName, type Negotiated, negotiate } from "./negotiation.ts";
import { Payloads } from "./payloads.ts";
import { usualPayloadBytes } from "./protocol.ts";
import { readInto } from "./read-buffer.ts";
import { Session, type SessionLimits } from "./session.ts";
import type { TlsIdentity } from "./tls.ts";

export interface ServerLimits {
  /** Longest read or write, as clients are told. Default 32 MiB, which all clients expect. */
  maxPayloadBytes: number;
  /** Requests of one connection that are not answered yet; the next ones wait in its socket. Default 256. */
  maxRequests: number;
  /** Their bytes; one request may go beyond it. Default 64 MiB. */
  maxBytes: number;
  /** Of all listeners; further ones are turned away. Default 256. */
  maxConnections: number;
  /** From being accepted to the end of the handshake. Default 10 000. */
  handshakeTimeoutMs: number;
  /** Ends a connection of which no byte moved for so long. Default: never, for a guest's disk may rest for days. */
  idleTimeoutMs: number | undefined;
}

export interface NbdServerOptions {
  limits?: Partial<ServerLimits>;
  /** What went wrong in a device, or in a connection (`command` is not given then). */
  onError?(error: unknown, where: { export?: string; command?: string }): void;
}

/** `only`: the one export that clients there can see. Default: all, also those added later. */
export type ListenOn = { only?: string } & (
  | {
      path: string;
      /** Whose the socket shall be; it is 0600. Default: this process's. */
      owner?: { uid: number; gid: number };
    }
  | {
      host: string;
      port: number;
      /** Asked at every connection, so that a renewed certificate counts. A must where others can connect. */
      tls?: () => TlsIdentity;
    }
);

/** What a Unix socket holds by default. */
const readBytes = 256 * 1024;

interface Connection {
  socket: Socket;
  export: Export | undefined;
  session: Session | undefined;
  over: Promise<void>;
}

const defaults: ServerLimits = {
  maxPayloadBytes: usualPayloadBytes,
  maxRequests: 256,
  maxBytes: 64 * 1024 * 1024,
  maxConnections: 256,
  handshakeTimeoutMs: 10_000,
  idleTimeoutMs: undefined,
};

/**
 * Serves block devices over NBD, on any number of sockets.
 *
 * ```ts
 * await using server = new NbdServer();
 * server.add({ name: "disk", device: new MemoryDevice({ sizeBytes: 2 ** 30 }) });
 * await server.listen({ path: "/run/disk.sock" });
 * ```
 */
export class NbdServer implements AsyncDisposable {
  readonly #limits: ServerLimits;
  readonly #options: NbdServerOptions;
  readonly #exports = new Map<string, Export>();
  readonly #listeners = new Set<Server>();
  readonly #connections = new Set<Connection>();
  readonly #payloads = new Payloads();
  readonly #readBuffer = Buffer.allocUnsafeSlow(readBytes);

  constructor(options: NbdServerOptions = {}) {
    this.#options = options;
    this.#limits = { ...defaults, ...options.limits };
  }

  /** NBD_EXPORT_EXISTS, NBD_EXPORT_INVALID. */
  add(entry: Export): void {
    const { name, device } = entry;
    const { minimum, preferred, maximum } = device.blockSizes;
    if (!isExportName(name)) throw fail("NBD_EXPORT_INVALID", { name: name.slice(0, 60), why: "its name" });
    if (!isPowerOfTwo(minimum) || minimum > 65536) {
      throw fail("NBD_EXPORT_INVALID", { name, why: `its minimum block size is ${minimum}` });
    }
    if (!isPowerOfTwo(preferred) || preferred < Math.max(512, minimum) || maximum < minimum) {
      throw fail("NBD_EXPORT_INVALID", { name, why: `its block sizes are ${preferred} and ${maximum}` });
    }
    if (this.#exports.has(name)) throw fail("NBD_EXPORT_EXISTS", { name });
    this.#exports.set(name, entry);
  }

  /**
   * Ends an export: nobody can connect to it any more, what its clients have in flight is answered, and
   * their connections are closed, after `graceMs` (default 10 000) in any case. Settles when the device is
   * no longer in use; where it hangs, when the grace is over.
   */
  async remove(name: string, options: { graceMs?: number } = {}): Promise<void> {
    const entry = this.#exports.get(name);
    this.#exports.delete(name);
    if (entry !== undefined) await this.#end(entry, options.graceMs);
  }

  /**
   * Has an export's clients connect again, as after a change of size: NBD has no message that tells it. QEMU
   * (with a reconnect-delay) does so by itself at its next request, which it repeats; it takes the new size
   * then, but shows it to its guest only after QMP `block_resize` with that size.
   */
  async reconnect(name: string, options: { graceMs?: number } = {}): Promise<void> {
    const entry = this.#exports.get(name);
    if (entry !== undefined) await this.#end(entry, options.graceMs);
  }

  /** How many clients an export has, or all have. */
  clients(name?: string): number {
    let count = 0;
    for (const connection of this.#connections) {
      if (name === undefined || connection.export?.name === name) count += 1;
    }
    return count;
  }

  /**
   * Says where, with the port that the system chose for port 0. A Unix socket that nobody listens on any
   * more is replaced. NBD_OPEN_TO_ALL, NBD_LISTEN_FAILED.
   */
  async listen(where: ListenOn): Promise<{ path: string } | { host: string; port: number }> {
    const tls = "path" in where ? undefined : where.tls;
    // A client that has said goodbye may close its side, and still wait for answers.
    const listener = createServer(
      {
        allowHalfOpen: true,
        noDelay: true,
        keepAlive: true,
        keepAliveInitialDelay: 60_000,
        pauseOnConnect: tls === undefined,
      },
      (socket) =>
        this.#accept(tls === undefined ? readInto(socket, this.#readBuffer) : socket, tls, where.only),
    );
    try {
      if ("path" in where) await listenOnUnix(listener, where);
      else {
        if (tls === undefined && !isLoopback(where.host)) throw fail("NBD_OPEN_TO_ALL", { host: where.host });
        await listening(listener, () => listener.listen({ host: where.host, port: where.port }));
      }
    } catch (error) {
      listener.close();
      if ((error as { code?: unknown }).code === "NBD_OPEN_TO_ALL") throw error;
      const address = "path" in where ? where.path : `${where.host}:${where.port}`;
      const why = isErrno(error, "EADDRINUSE") ? "another program listens there" : reasonOf(error);
      throw fail("NBD_LISTEN_FAILED", { address, why }, { cause: error });
    }
    this.#listeners.add(listener);
    if ("path" in where) return { path: where.path };
    const bound = listener.address() as { port: number };
    return { host: where.host, port: bound.port };
  }

  /**
   * Listens no more, answers what is in flight and closes all connections; `graceMs` (default 10 000) bounds
   * it, 0 ends all abruptly. Requests that were not begun get no answer, so that a client that reconnects
   * repeats them: the protocol's ESHUTDOWN would reach a guest as a failed disk.
   */
  async close(options: { graceMs?: number } = {}): Promise<void> {
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
    await this.#end(undefined, options.graceMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #end(entry: Export | undefined, graceMs = 10_000): Promise<void> {
    const ending = [...this.#connections].filter(
      (connection) => entry === undefined || connection.export === entry,
    );
    for (const { session, socket } of ending) {
      if (session !== undefined && graceMs > 0) session.drain();
      else socket.destroy();
    }
    let timer: NodeJS.Timeout | undefined;
    const timeUp = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, graceMs);
    });
    await Promise.race([Promise.all(ending.map(({ over }) => over)), timeUp]);
    clearTimeout(timer);
    for (const { socket } of ending) socket.destroy();
  }

  #accept(socket: Socket, tls: (() => TlsIdentity) | undefined, only: string | undefined): void {
    if (this.#connections.size >= this.#limits.maxConnections) {
      socket.destroy();
      return;
    }
    const connection: Connection = {
      socket,
      export: undefined,
      session: undefined,
      over: Promise.resolve(),
    };
    this.#connections.add(connection);
    connection.over = this.#serve(connection, tls, only)
      .catch((error: unknown) => this.#report(error, connection))
      .finally(() => {
        socket.destroy();
        this.#connections.delete(connection);
      });
  }

  async #serve(
    connection: Connection,
    tls: (() => TlsIdentity) | undefined,
    only: string | undefined,
  ): Promise<void> {
    const { socket } = connection;
    // Outside of a wait nobody listens to its errors; whoever reads or writes next is told.
    socket.on("error", () => {});
    const timer = setTimeout(() => socket.destroy(), this.#limits.handshakeTimeoutMs);
    let negotiated: Negotiated | undefined;
    try {
      negotiated = await negotiate(socket, {
        exports: () => this.#visible(only),
        tls,
        maxPayloadBytes: this.#limits.maxPayloadBytes,
      });
    } finally {
      clearTimeout(timer);
    }
    if (negotiated === undefined) return;
    // Meanwhile it may have been removed, or have another size, of which `reconnect` could not tell it.
    const { name, device } = negotiated.export;
    const changed = negotiated.sizeBytes !== device.sizeBytes;
    if (changed || this.#exports.get(name) !== negotiated.export) return;
    connection.export = negotiated.export;
    const limits: SessionLimits = this.#limits;
    connection.session = new Session({
      ...negotiated,
      limits,
      payloads: this.#payloads,
      first: negotiated.rest,
      onError: (error, command) => this.#report(error, connection, command),
    });
    await connection.session.over;
  }

  #visible(only: string | undefined): ReadonlyMap<string, Export> {
    if (only === undefined) return this.#exports;
    const entry = this.#exports.get(only);
    return new Map(entry === undefined ? [] : [[only, entry]]);
  }

  #report(error: unknown, connection: Connection, command?: string): void {
    // Clients come and go as they like.
    if (command === undefined && isLost(error)) return;
    this.#options.onError?.(error, {
      ...(connection.export === undefined ? {} : { export: connection.export.name }),
      ...(command === undefined ? {} : { command }),
    });
  }
}

function isLost(error: unknown): boolean {
  if (error instanceof ConnectionEnded) return true;
  return ["ECONNRESET", "EPIPE", "ERR_STREAM_DESTROYED"].some((code) => isErrno(error, code));
}

function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || (isIP(host) === 4 && host.startsWith("127."));
}

async function listenOnUnix(
  listener: Server,
  { path, owner }: { path: string; owner?: { uid: number; gid: number } },
): Promise<void> {
  const listen = () =>
    listening(listener, () => {
      // bind(2) happens within listen(): where there is a umask, the socket is never open to others.
      const before = isMainThread ? process.umask(0o177) : undefined;
      try {
        listener.listen(path);
      } finally {
        if (before !== undefined) process.umask(before);
      }
    });
  try {
    await listen();
  } catch (error) {
    if (!isErrno(error, "EADDRINUSE") || (await answers(path))) throw error;
    await rm(path);
    await listen();
  }
  await chmod(path, 0o600);
  if (owner !== undefined) await chown(path, owner.uid, owner.gid);
}

function listening(listener: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      listener.off("error", settle).off("listening", settle);
      if (error === undefined) resolve();
      else reject(error);
    };
    listener.once("error", settle).once("listening", settle);
    listen();
  });
}
