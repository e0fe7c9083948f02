import { createServer, type Server } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { hostname } from "node:os";
import type { Server as TlsServer } from "node:tls";
import { hostNames, keepRenewed, type ServerIdentity, serverIdentity } from "@skep/certificates";
import { formatListen, listenTcp, listenUnix, parseListen } from "@skep/daemon";
import { type S3Face, serverOptions, serveS3 } from "@skep/s3";
import type { Logger } from "pino";
import type { StorageConfig } from "./config.ts";

interface Open extends AsyncDisposable {
  server: Server;
  /** `HOST:PORT` with the port that the system chose. */
  address: string;
  host: string;
}

const firstRetryMs = 500;
const longestRetryMs = 30_000;
const graceMs = 30_000;

/** The S3 endpoint's sockets: one for this host's user, always, and one on TCP while it is up. */
export class Listeners implements AsyncDisposable {
  readonly #face: S3Face;
  readonly #tlsDirectory: string;
  readonly #log: Logger;
  #local: Server | undefined;
  #open: Open | undefined;
  #config: StorageConfig | undefined;
  #retry: NodeJS.Timeout | undefined;
  #problem: string | null = null;

  constructor(face: S3Face, tlsDirectory: string, log: Logger) {
    this.#face = face;
    this.#tlsDirectory = tlsDirectory;
    this.#log = log;
  }

  /** Where clients find it; null while nothing listens on TCP. */
  get endpoint(): string | null {
    if (this.#open === undefined || this.#config === undefined) return null;
    const { address, host } = this.#open;
    const named = ["0.0.0.0", "::"].includes(host) ? address.replace(/^.*(?=:\d+$)/, hostname()) : address;
    return `${this.#config.http ? "http" : "https"}://${named}`;
  }

  /** Why it does not listen although it should. */
  get problem(): string | null {
    return this.#problem;
  }

  /** The address with the port that the system chose, where it was asked to choose one. */
  get address(): string | null {
    return this.#open?.address ?? null;
  }

  async openLocal(path: string): Promise<void> {
    const server = createServer(serverOptions);
    this.#serve(server);
    await listenUnix(server, path);
    this.#local = server;
  }

  /** Listens as the configuration says; the old listener goes once the new one is there. Throws LISTEN_FAILED. */
  async apply(config: StorageConfig): Promise<void> {
    this.#stopRetrying();
    const before = this.#open;
    if (!config.up) {
      this.#open = undefined;
      this.#config = config;
      await before?.[Symbol.asyncDispose]();
      return;
    }
    if (before !== undefined && this.#isServed(config, before)) {
      this.#config = config;
      return;
    }
    // The same port cannot be had twice: then the old listener has to go first.
    const samePort = before !== undefined && portOf(before.address) === portOf(config.listen);
    if (samePort) {
      this.#open = undefined;
      await before[Symbol.asyncDispose]();
    }
    try {
      this.#open = await this.#listen(config);
    } catch (error) {
      if (samePort) await this.applyOrRetry({ ...(this.#config as StorageConfig), listen: before.address });
      throw error;
    }
    this.#config = config;
    if (!samePort) await before?.[Symbol.asyncDispose]();
  }

  /** Whether the open listener is as the configuration wants it: then nobody needs to be cut off. */
  #isServed({ listen, http, domain }: StorageConfig, { address }: Open): boolean {
    return listen === address && http === this.#config?.http && domain === this.#config.domain;
  }

  /** As `apply` at the start: what keeps it from listening may pass, so it goes on trying. */
  async applyOrRetry(config: StorageConfig, waitMs = firstRetryMs): Promise<void> {
    try {
      await this.apply(config);
    } catch (error) {
      this.#problem = (error as Error).message;
      this.#log.error({ err: error }, "cannot listen; trying again");
      this.#retry = setTimeout(() => {
        void this.applyOrRetry(config, Math.min(waitMs * 2, longestRetryMs));
      }, waitMs);
      this.#retry.unref();
    }
  }

  #stopRetrying(): void {
    clearTimeout(this.#retry);
    this.#problem = null;
  }

  async #listen(config: StorageConfig): Promise<Open> {
    const wanted = parseListen(config.listen);
    if (config.http) {
      const server = createServer(serverOptions);
      this.#serve(server);
      const bound = await listenTcp(server, wanted);
      return this.#opened(server, formatListen(bound), bound.host);
    }
    const identity = () => this.#identity(wanted.host, config.domain);
    const { certificate, key } = await identity();
    const tls = { cert: certificate, key, minVersion: "TLSv1.2", handshakeTimeout: 20_000 } as const;
    const server = createTlsServer({ ...serverOptions, ...tls });
    server.on("tlsClientError", () => {}); // strangers knocking, and clients that do not trust the CA
    this.#serve(server);
    const bound = await listenTcp(server, wanted);
    const renewal = keepRenewed(server as TlsServer, identity, (error) =>
      this.#log.error({ err: error }, "cannot renew the TLS certificate"),
    );
    return this.#opened(server, formatListen(bound), bound.host, renewal);
  }

  #identity(host: string, domain: string | null): Promise<ServerIdentity> {
    const names = hostNames(host);
    if (domain !== null) names.dns.push(domain, `*.${domain}`);
    return serverIdentity({ directory: this.#tlsDirectory, name: "storage", names });
  }

  #serve(server: Server): void {
    serveS3(server, this.#face);
    // A connection that could not be accepted, as with no free file descriptor, must not end storaged.
    server.on("error", (error) => this.#log.error({ err: error }, "cannot accept a connection"));
  }

  #opened(server: Server, address: string, host: string, renewal?: Disposable): Open {
    const close = async () => {
      renewal?.[Symbol.dispose]();
      await closeServer(server);
    };
    return { server, address, host, [Symbol.asyncDispose]: close };
  }

  /** Takes no new connections; what is under way has half a minute to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopRetrying();
    const local = this.#local === undefined ? [] : [closeServer(this.#local)];
    await Promise.all([...local, this.#open?.[Symbol.asyncDispose]()]);
  }
}

function portOf(address: string): string | undefined {
  return /:(\d+)$/.exec(address)?.[1];
}

async function closeServer(server: Server): Promise<void> {
  const idle = setInterval(() => server.closeIdleConnections(), 100);
  const late = setTimeout(() => server.closeAllConnections(), graceMs);
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeIdleConnections();
  });
  clearInterval(idle);
  clearTimeout(late);
}
