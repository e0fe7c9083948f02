import { createServer, type Server as TlsServer } from "node:https";
import { isIP } from "node:net";
import { isErrno } from "@skep/base";
import type { App } from "./context.ts";
import { fail } from "./errors.ts";
import { hostNames, type ServerIdentity, serverIdentity } from "./tls.ts";

const day = 86_400_000;

export function parseListen(address: string): { host: string; port: number } {
  const match = /^(\[[\da-fA-F:.]+\]|[^\s:[\]/]*):(\d{1,5})$/.exec(address);
  if (match === null)
    throw fail("LISTEN_INVALID", { address: address.slice(0, 100), why: "it is not HOST:PORT" });
  const host = (match[1] as string).replace(/^\[|\]$/g, "");
  const port = Number(match[2]);
  if (host === "") throw fail("LISTEN_INVALID", { address, why: "the host is missing" });
  if (port > 65535) throw fail("LISTEN_INVALID", { address, why: "the port is above 65535" });
  return { host, port };
}

/** The TCP side of the API: TLS, and every request goes through the app's token check. */
export class TlsListener implements AsyncDisposable {
  readonly #app: App;
  readonly #directory: string;
  #server: TlsServer | undefined;
  #address: string | null = null;
  #renewal: NodeJS.Timeout | undefined;

  constructor(app: App, directory: string) {
    this.#app = app;
    this.#directory = directory;
  }

  get address(): string | null {
    return this.#address;
  }

  /** Made at first use, since most homes never listen on TCP. */
  identity(listenHost?: string): Promise<ServerIdentity> {
    return serverIdentity(this.#directory, hostNames(listenHost));
  }

  async listen(address: string): Promise<void> {
    const { host, port } = parseListen(address);
    if (port !== 0 && this.#address === address) return;
    const { certificate, key } = await this.identity(host);
    const server = createServer(
      {
        cert: certificate,
        key,
        minVersion: "TLSv1.2",
        handshakeTimeout: 20_000,
        connectionsCheckingInterval: 60_000,
      },
      (request, response) => this.#app.routing(request, response),
    );
    server.maxConnections = 1000;
    server.on("upgrade", (request, socket, head) => this.#app.server.emit("upgrade", request, socket, head));
    server.on("tlsClientError", () => {}); // strangers knocking
    try {
      await new Promise<void>((resolve, reject) => {
        server.once("error", reject);
        server.listen({ host, port }, resolve);
      });
    } catch (error) {
      const why = isErrno(error, "EADDRINUSE")
        ? "another program listens there"
        : isErrno(error, "EADDRNOTAVAIL") || isErrno(error, "ENOTFOUND")
          ? "this host does not have that address"
          : isErrno(error, "EACCES")
            ? "ports below 1024 need root"
            : (error as Error).message;
      throw fail("LISTEN_FAILED", { address, why }, { cause: error });
    }
    // A connection that could not be accepted, as with no free file descriptor, must not end skepd.
    server.on("error", (error) => this.#app.log.error({ err: error }, "cannot accept a connection"));
    await this.close();
    const bound = server.address();
    const boundPort = typeof bound === "object" && bound !== null ? bound.port : port;
    this.#server = server;
    this.#address = `${isIP(host) === 6 ? `[${host}]` : host}:${boundPort}`;
    this.#renewal = setInterval(() => {
      this.identity(host).then(
        (renewed) =>
          server.setSecureContext({ cert: renewed.certificate, key: renewed.key, minVersion: "TLSv1.2" }),
        (error: unknown) => this.#app.log.error({ err: error }, "cannot renew the TLS certificate"),
      );
    }, day);
    this.#renewal.unref();
  }

  /** Takes no new connections and ends the old ones, a moment later, so that answers still leave. */
  async close(): Promise<void> {
    clearInterval(this.#renewal);
    const server = this.#server;
    this.#server = undefined;
    this.#address = null;
    if (server === undefined) return;
    server.close();
    server.closeIdleConnections();
    setTimeout(() => server.closeAllConnections(), 1000).unref();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
