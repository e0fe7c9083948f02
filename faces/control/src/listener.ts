import { createServer, type Server as TlsServer } from "node:https";
import { hostNames, keepRenewed, type ServerIdentity, serverIdentity } from "@skep/certificates";
import { formatListen, listenTcp, parseListen } from "@skep/daemon";
import type { App } from "./context.ts";

/** The TCP side of the API: TLS, and every request goes through the app's token check. */
export class TlsListener implements AsyncDisposable {
  readonly #app: App;
  readonly #directory: string;
  #server: TlsServer | undefined;
  #address: string | null = null;
  #renewal: Disposable | undefined;

  constructor(app: App, directory: string) {
    this.#app = app;
    this.#directory = directory;
  }

  get address(): string | null {
    return this.#address;
  }

  /** Made at first use, since most homes never listen on TCP. */
  identity(listenHost?: string): Promise<ServerIdentity> {
    return serverIdentity({ directory: this.#directory, name: "server", names: hostNames(listenHost) });
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
    const bound = await listenTcp(server, { host, port });
    // A connection that could not be accepted, as with no free file descriptor, must not end skepd.
    server.on("error", (error) => this.#app.log.error({ err: error }, "cannot accept a connection"));
    await this.close();
    this.#server = server;
    this.#address = formatListen(bound);
    this.#renewal = keepRenewed(
      server,
      () => this.identity(host),
      (error) => this.#app.log.error({ err: error }, "cannot renew the TLS certificate"),
    );
  }

  /** Takes no new connections and ends the old ones, a moment later, so that answers still leave. */
  async close(): Promise<void> {
    this.#renewal?.[Symbol.dispose]();
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
