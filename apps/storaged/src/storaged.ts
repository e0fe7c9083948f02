import { rm } from "node:fs/promises";
import { openAccounts } from "@skep/accounts";
import type { Storage } from "@skep/api/schemas";
import {
  KeyedMutex,
  objectsSocket,
  processStartTime,
  runtimeDirectory,
  storageFile,
  storageSocket,
  writeFileAtomic,
} from "@skep/base";
import { authorityCertificate, authorityPath } from "@skep/certificates";
import {
  clearSocket,
  createJsonServer,
  listenUnix,
  lockHome,
  prepareRuntime,
  type Running,
} from "@skep/daemon";
import { createS3, keepLifecycle, type S3Face } from "@skep/s3";
import type { Logger } from "pino";
import { AccessLog } from "./access-log.ts";
import { adminRoutes } from "./admin.ts";
import type { CheckedStore } from "./check.ts";
import { checkConfig, readStorageConfig, type StorageConfig, writeStorageConfig } from "./config.ts";
import { Listeners } from "./listeners.ts";
import { createMetrics } from "./metrics.ts";
import { storagePaths } from "./paths.ts";
import { storeSeals, volumeKeys } from "./volumes/seals.ts";
import { Volumes } from "./volumes/volumes.ts";

export interface StoragedOptions {
  home: string;
  version: string;
  log: Logger;
  openStore(options: { directory: string; log: Logger }): Promise<CheckedStore>;
  /** The length of a day in lifecycle rules; for tests. */
  lifecycleDayMs?: number;
}

/** Opens everything in order and serves when it returns; what was opened is closed on failure. */
export async function startStoraged(options: StoragedOptions): Promise<Running> {
  const { home, log, version } = options;
  const paths = storagePaths(home);
  const startedAt = new Date().toISOString();
  await using opened = new AsyncDisposableStack();
  opened.use(await lockHome(home, { program: "storaged", infoFile: storageFile(home) }));
  await prepareRuntime(runtimeDirectory(home), home);
  const sockets = { admin: storageSocket(home), s3: objectsSocket(home) };
  for (const socket of Object.values(sockets)) await clearSocket(socket);
  let config = await readStorageConfig(paths.config);
  const authority = await authorityCertificate(paths.tls);
  const accounts = opened.use(openAccounts({ home }));
  const store = opened.use(await options.openStore({ directory: paths.store, log }));
  const volumes = opened.use(
    await Volumes.open({
      home,
      runtime: runtimeDirectory(home),
      log,
      own: store,
      owner: () => accounts.root().id,
      seals: storeSeals(home),
      keys: volumeKeys(home),
    }),
  );
  const accessLog = opened.use(new AccessLog(paths.accessLog));

  const makeFace = (): S3Face =>
    createS3({
      store,
      accounts,
      clock: { now: Date.now },
      // Each request is in the access log; what failed is told here, too.
      log: { info() {}, warn: log.warn.bind(log), error: log.error.bind(log) },
      region: config.region,
      ...(config.domain === null ? {} : { domain: config.domain }),
      onRequest(record) {
        metrics.request(record);
        if (config.accessLog) accessLog.write(record);
        if (record.accessKeyId !== undefined && record.status < 400) accounts.noteUse(record.accessKeyId);
      },
    });
  let face = makeFace();
  const metrics = createMetrics(
    store,
    () => face.active,
    () => volumes.list(),
  );
  const listeners = new Listeners(
    {
      handle: (request, response) => face.handle(request, response),
      handleContinue: (request, response) => face.handleContinue(request, response),
      get active() {
        return face.active;
      },
      drain: () => face.drain(),
    },
    paths.tls,
    log,
  );
  opened.defer(async () => {
    void face.drain(); // from now on an answer closes its connection
    await listeners[Symbol.asyncDispose]();
  });
  const ending = new AbortController();
  const lifecycle = keepLifecycle({
    store,
    clock: { now: Date.now },
    log,
    signal: ending.signal,
    ...(options.lifecycleDayMs === undefined ? {} : { dayMs: options.lifecycleDayMs }),
  });
  opened.defer(async () => {
    ending.abort();
    await lifecycle;
  });

  const asked = Promise.withResolvers<void>();
  const status = (): Storage => ({
    running: true,
    pid: process.pid,
    version,
    startedAt,
    endpoint: listeners.endpoint,
    listen: config.up ? config.listen : null,
    http: config.http,
    domain: config.domain,
    region: config.region,
    accessLog: config.accessLog,
    socket: sockets.s3,
    problem: listeners.problem,
    authority,
    authorityPath: authorityPath(paths.tls),
  });
  const changes = new KeyedMutex();
  const configure = (change: Partial<StorageConfig>) =>
    changes.run("config", async () => {
      const wanted = checkConfig({ ...config, ...change });
      await readStorageConfig(paths.config); // a later version's is not overwritten
      await listeners.apply(wanted);
      config = { ...wanted, listen: listeners.address ?? wanted.listen };
      await writeStorageConfig(paths.config, config);
      face = makeFace();
    });
  const admin = createJsonServer(
    adminRoutes({ store, volumes, metrics, status, configure, shutdown: () => asked.resolve() }),
    (error, route) => log.error({ err: error, route }, "cannot answer skepd"),
  );

  await listeners.openLocal(sockets.s3);
  opened.defer(() => rm(sockets.s3, { force: true }));
  if (config.up) await listeners.applyOrRetry(config);
  await listenUnix(admin, sockets.admin);
  opened.defer(async () => {
    admin.close();
    admin.closeAllConnections();
    await rm(sockets.admin, { force: true });
  });
  const info = { pid: process.pid, startTime: processStartTime(process.pid), version, socket: sockets.admin };
  await writeFileAtomic(storageFile(home), `${JSON.stringify(info)}\n`);
  opened.defer(() => rm(storageFile(home), { force: true }));
  log.info({ ...info, home, endpoint: listeners.endpoint }, "ready");
  const closing = opened.move();
  return { asked: asked.promise, close: () => closing.disposeAsync() };
}
