import { chmodSync } from "node:fs";
import type { DatabaseSync } from "node:sqlite";
import type { Duplex } from "node:stream";
import websocket from "@fastify/websocket";
import { formatSize, SkepError, toSkepError } from "@skep/base";
import Fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyRequest,
  LogController,
} from "fastify";
import type { App, Context } from "./context.ts";
import type { ImageEngine, MachineEngine, StateEngine, StorageEngine, VolumeEngine } from "./engines.ts";
import { fail } from "./errors.ts";
import { Events } from "./events.ts";
import { Jobs } from "./jobs.ts";
import { TlsListener } from "./listener.ts";
import { createMetrics } from "./metrics.ts";
import { documentRoutes } from "./openapi.ts";
import { accountRoutes } from "./routes/accounts.ts";
import { bucketRoutes } from "./routes/buckets.ts";
import { consoleRoutes } from "./routes/console.ts";
import { eventRoutes } from "./routes/events.ts";
import { execRoutes } from "./routes/exec.ts";
import { forkRoutes } from "./routes/forks.ts";
import { imageRoutes } from "./routes/images.ts";
import { jobRoutes } from "./routes/jobs.ts";
import { machineSnapshotRoutes } from "./routes/machine-snapshots.ts";
import { machineRoutes } from "./routes/machines.ts";
import { stateRoutes } from "./routes/states.ts";
import { storageRoutes } from "./routes/storage.ts";
import { systemRoutes } from "./routes/system.ts";
import { templateRoutes } from "./routes/templates.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { volumeRoutes } from "./routes/volumes.ts";
import { Tokens } from "./tokens.ts";
import { validatorCompiler } from "./validation.ts";

export interface ControlOptions {
  machines: MachineEngine;
  states: StateEngine;
  images: ImageEngine;
  storage: StorageEngine;
  volumes: VolumeEngine;
  /** From `openStore`; the caller closes it after the control. */
  store: DatabaseSync;
  log: FastifyBaseLogger;
  version: string;
  home: string;
  /** Holds CA and certificates. */
  tlsDirectory: string;
  events?: Events;
  /** Keeps the address for later starts. */
  saveListen(address: string | null): Promise<void>;
  shutdown(): void;
}

/** The control API. It serves nothing before `listenUnix` or `listenTls`. */
export interface Control extends AsyncDisposable {
  readonly app: App;
  readonly jobs: Jobs;
  readonly events: Events;
  readonly tokens: Tokens;
  /** Its peers are trusted: only this user (and root) can connect to it. */
  listenUnix(path: string): Promise<void>;
  /** `HOST:PORT`; needs tokens. */
  listenTls(address: string): Promise<void>;
  listening(): string | null;
  /** Stops listening, cancels running jobs and waits until they are undone. */
  close(): Promise<void>;
}

const bodyLimit = 8 * 1024 * 1024;

export async function createControl(options: ControlOptions): Promise<Control> {
  const { store, log, machines, states, images, storage, volumes, version, home } = options;
  const app: App = Fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit,
    forceCloseConnections: true,
    http: { connectionsCheckingInterval: 60_000 },
    routerOptions: { maxParamLength: 1024 },
    frameworkErrors: (error, _request, reply) => {
      const failure = fail("REQUEST_INVALID", { why: error.message });
      void reply.code(400 as never).send({ error: failure.toJSON() } as never);
    },
    clientErrorHandler: answerMalformed,
  });
  const events = options.events ?? new Events();
  const metrics = createMetrics(machines, version);
  const jobs = new Jobs({ database: store, events, log, onFinished: metrics.jobFinished });
  const tokens = new Tokens(store);
  const tls = new TlsListener(app, options.tlsDirectory);
  const context: Context = {
    machines,
    states,
    images,
    storage,
    volumes,
    jobs,
    events,
    tokens,
    metrics,
    log,
    version,
    home,
    startedAt: new Date().toISOString(),
    listening: () => tls.address,
    async setListen(address) {
      if (address === null) await tls.close();
      else await tls.listen(address);
      await options.saveListen(tls.address);
    },
    fingerprint: async () => (await tls.identity()).fingerprint,
    shutdown: () => options.shutdown(),
  };

  app.setValidatorCompiler(validatorCompiler);
  // Handlers' types are checked against the schemas; a second look at run time would cost memory only.
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  const trusted = new WeakSet<Duplex>();
  app.server.on("connection", (socket) => trusted.add(socket));
  app.addHook("onRequest", async (request) => {
    checkOrigin(request, trusted.has(request.raw.socket));
    if (!trusted.has(request.raw.socket)) {
      tokens.check(request.headers.authorization, request.raw.socket.remoteAddress ?? "unknown");
    }
  });
  app.addHook("onResponse", async (request, reply) => {
    const route = request.routeOptions.url ?? "unknown";
    metrics.request(request.method, route, reply.statusCode, reply.elapsedTime / 1000);
    const { method, url } = request;
    log.debug({ method, url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) }, "request");
  });
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const failure = mapError(error);
    if (failure.status >= 500)
      log.error({ err: error, method: request.method, url: request.url }, "request failed");
    void reply.code(failure.status).send({ error: failure.toJSON() } as never);
  });
  app.setNotFoundHandler((request) => {
    throw fail("ROUTE_NOT_FOUND", { method: request.method, path: request.url.slice(0, 200) });
  });

  await documentRoutes(app, version);
  await app.register(websocket, {
    options: { maxPayload: 4 * 1024 * 1024, perMessageDeflate: false },
    // Sockets end with their servers below; waiting for each close handshake would hold up the end.
    preClose: (done) => done(),
  });
  for (const routes of [
    systemRoutes,
    machineRoutes,
    machineSnapshotRoutes,
    stateRoutes,
    forkRoutes,
    templateRoutes,
    consoleRoutes,
    execRoutes,
    imageRoutes,
    storageRoutes,
    volumeRoutes,
    accountRoutes,
    bucketRoutes,
    jobRoutes,
    eventRoutes,
    tokenRoutes,
  ]) {
    app.register((scope, _options, done) => {
      routes(scope as unknown as App, context);
      done();
    });
  }
  await app.ready();

  const close = async () => {
    app.server.close();
    await tls.close();
    await jobs.close();
    for (const socket of app.websocketServer.clients) socket.terminate();
    app.server.closeAllConnections();
    await app.close();
  };
  return {
    app,
    jobs,
    events,
    tokens,
    async listenUnix(path) {
      await new Promise<void>((resolve, reject) => {
        app.server.once("error", reject);
        // bind(2) happens within listen(): the socket is never open to others, not for a moment.
        const before = process.umask(0o177);
        try {
          app.server.listen(path, resolve);
        } finally {
          process.umask(before);
        }
      });
      chmodSync(path, 0o600);
      // A connection that could not be accepted, as with no free file descriptor, must not end skepd.
      app.server.on("error", (error) => log.error({ err: error }, "cannot accept a connection"));
    },
    listenTls: (address) => tls.listen(address),
    listening: () => tls.address,
    close,
    [Symbol.asyncDispose]: close,
  };
}

/** A browser sends Origin with what a web page asks for: no page has business here but our own. */
function checkOrigin(request: FastifyRequest, trusted: boolean): void {
  const { origin, host } = request.headers;
  if (origin === undefined) return;
  if (!trusted && host !== undefined && origin === `https://${host}`) return;
  throw fail("ORIGIN_REFUSED", { origin: origin.slice(0, 200) });
}

function mapError(error: FastifyError): SkepError {
  if (error instanceof SkepError) return error;
  if (error.code === "FST_ERR_CTP_BODY_TOO_LARGE") {
    return fail("BODY_TOO_LARGE", { limit: formatSize(bodyLimit) }, { cause: error });
  }
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return fail("REQUEST_INVALID", { why: error.message }, { cause: error });
  }
  return toSkepError(error);
}

/** What is not even HTTP gets the same shape of answer. */
function answerMalformed(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const failure = fail("REQUEST_INVALID", { why: "it is not HTTP as it should be" });
  const body = JSON.stringify({ error: failure.toJSON() });
  socket.end(
    `HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`,
  );
}
